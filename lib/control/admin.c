/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * On the wire: the words, each with its zero byte, then the end of the asker's side. Back comes a byte, '0' or '1' for
 * refused, and the text with a zero byte behind, without which it was cut off. Either side gives up on one that says
 * nothing for a few seconds, and the instance on one that takes longer for all it has to say.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <base/log.h>
#include <base/types.h>
#include <control/admin.h>

#define REQUEST_BYTES_MAX (1u << 20)
#define WORDS_MAX         65536
#define PATIENCE_S        5
#define ACCEPT_PAUSE_US   100000
#define FOLDER_SHARED     "/run/barewire"

struct bw_admin {
	const struct bw_admin_command *commands;
	unsigned command_count;
	void *arg;
	int listen_fd, stop_fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	pthread_t thread;
};

/* ---- the place ------------------------------------------------------------------------------------------------ */

/** Folders where an instance's socket may be: the machine's, then the user's. False: there is no such. */
static bool folder(unsigned which, char *out, size_t out_bytes)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (which == 0)
		snprintf(out, out_bytes, "%s", FOLDER_SHARED);
	else if (which == 1 && runtime != NULL && runtime[0] == '/')
		snprintf(out, out_bytes, "%.80s/barewire", runtime);
	else if (which == 2) /* no folder of the session's, as under su */
		snprintf(out, out_bytes, "/tmp/barewire-%u", geteuid());
	else
		return false;
	return true;
}

#define FOLDERS 3

/** Ours, and nobody else's to write to. */
static bool make_folder(const char *path, bool is_shared)
{
	struct stat status;

	if (mkdir(path, is_shared ? 0755 : 0700) != 0 && errno != EEXIST)
		return false;
	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
	       (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/** The process that a socket's name stands for; 0: none such. */
static int pid_of(const char *name)
{
	char *end;
	const long pid = strtol(name, &end, 10);

	return isdigit((unsigned char)name[0]) && strcmp(end, ".sock") == 0 && pid > 0 && pid < (1 << 30)
		       ? (int)pid
		       : 0;
}

static bool is_alive(int pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

/** What instances that died have left. */
static void sweep(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		const int pid = pid_of(entry->d_name);

		if (pid != 0 && !is_alive(pid))
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir != NULL)
		closedir(dir);
}

/* ---- the instance --------------------------------------------------------------------------------------------- */

static void set_patience(int fd)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/** Of a clock that nobody sets. */
static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/** All until the end. Returns the bytes, or -1: too many, or too slow. */
static ssize_t read_all(int fd, char *out, size_t max)
{
	const time_t began = seconds();
	size_t used = 0;
	ssize_t got;

	while ((got = read(fd, out + used, max - used)) > 0) {
		used += (size_t)got;
		if (used == max || seconds() - began > PATIENCE_S)
			return -1;
	}
	return got == 0 ? (ssize_t)used : -1;
}

static int run(const struct bw_admin *admin, int argc, char **argv, FILE *out)
{
	for (unsigned i = 0; argc > 0 && i < admin->command_count; i++)
		if (strcmp(admin->commands[i].name, argv[0]) == 0)
			return admin->commands[i].run(admin->arg, argc - 1, argv + 1, out);
	fprintf(out, "%.60s: this instance knows no such command; is it of another version?",
		argc > 0 ? argv[0] : "");
	return -EINVAL;
}

static void serve_one(const struct bw_admin *admin, int fd)
{
	char *request = malloc(REQUEST_BYTES_MAX), *text = NULL;
	char **argv = calloc(WORDS_MAX, sizeof(*argv));
	size_t text_bytes = 0;
	FILE *out = open_memstream(&text, &text_bytes);
	ssize_t bytes = -1;
	int argc = 0;

	if (request != NULL && argv != NULL && out != NULL) {
		set_patience(fd);
		bytes = read_all(fd, request, REQUEST_BYTES_MAX);
	}
	/* The last word ends with a zero byte, or it was cut off. */
	if (bytes > 0 && request[bytes - 1] == '\0') {
		const time_t began = seconds();
		int refused;

		for (char *word = request; word < request + bytes && argc < WORDS_MAX;
			word += strlen(word) + 1)
			argv[argc++] = word;
		fputc('0', out);
		refused = run(admin, argc, argv, out);
		fputc('\0', out);
		fclose(out);
		out = NULL;
		if (text != NULL) {
			text[0] = refused != 0 ? '1' : '0';
			for (size_t sent = 0; sent < text_bytes && seconds() - began <= PATIENCE_S;) {
				const ssize_t some = send(fd, text + sent, text_bytes - sent, MSG_NOSIGNAL);

				if (some <= 0)
					break;
				sent += (size_t)some;
			}
		}
	}
	if (out != NULL)
		fclose(out);
	free(text);
	free(argv);
	free(request);
}

static void *admin_main(void *arg)
{
	struct bw_admin *admin = arg;
	struct pollfd fds[2] = { { .fd = admin->stop_fd, .events = POLLIN },
		{ .fd = admin->listen_fd, .events = POLLIN } };

	pthread_setname_np(pthread_self(), "bw-admin");
	while (poll(fds, BW_ARRAY_LEN(fds), -1) < 0 || (fds[0].revents & POLLIN) == 0) {
		const int fd = accept4(admin->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno != EAGAIN) /* no descriptor left, say: the asker waits, or gives up */
				usleep(ACCEPT_PAUSE_US);
			continue;
		}
		serve_one(admin, fd);
		close(fd);
	}
	return NULL;
}

static int listen_in(struct bw_admin *admin, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	sweep(path);
	if ((size_t)snprintf(admin->path, sizeof(admin->path), "%s/%d.sock", path, getpid()) >=
		sizeof(admin->path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, admin->path, sizeof(addr.sun_path));
	(void)unlink(admin->path); /* of an instance that died, and whose number we have got */
	admin->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	rc = admin->listen_fd < 0 ||
			     bind(admin->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
			     listen(admin->listen_fd, 8) != 0
		     ? -errno
		     : 0;
	umask(mask);
	if (rc != 0 && admin->listen_fd >= 0) {
		close(admin->listen_fd);
		admin->listen_fd = -1;
	}
	return rc;
}

struct bw_admin *bw_admin_start(const struct bw_admin_command *commands, unsigned count, void *arg)
{
	struct bw_admin *admin = calloc(1, sizeof(*admin));
	char path[100];
	int rc = -EACCES;

	if (admin == NULL)
		return NULL;
	*admin = (struct bw_admin){
		.commands = commands, .command_count = count, .arg = arg, .listen_fd = -1, .stop_fd = -1
	};
	for (unsigned i = 0; i < FOLDERS && rc != 0; i++)
		if (folder(i, path, sizeof(path)) && make_folder(path, i == 0))
			rc = listen_in(admin, path);
	admin->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (rc == 0 && pthread_create(&admin->thread, NULL, admin_main, admin) == 0)
		return admin;
	bw_warn("nobody can ask this instance anything: no socket in %s (%s)", FOLDER_SHARED, strerror(-rc));
	if (admin->listen_fd >= 0)
		close(admin->listen_fd);
	close(admin->stop_fd);
	free(admin);
	return NULL;
}

void bw_admin_stop(struct bw_admin *admin)
{
	const uint64_t one = 1;

	if (admin == NULL)
		return;
	if (write(admin->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(admin->thread, NULL);
	(void)unlink(admin->path);
	close(admin->listen_fd);
	close(admin->stop_fd);
	free(admin);
}

/* ---- who asks ------------------------------------------------------------------------------------------------- */

struct found {
	unsigned count;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of one of them */
	char pids[128];
};

/** Of root or of us, and nobody else's to write to: else anyone could answer in an instance's place. */
static bool is_trusted(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
	       (status.st_uid == 0 || status.st_uid == geteuid()) &&
	       (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static void look_in(const char *path, int pid_wanted, struct found *found)
{
	DIR *dir = is_trusted(path) ? opendir(path) : NULL;
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		const int pid = pid_of(entry->d_name);
		const size_t used = strlen(found->pids);

		if (pid == 0 || (pid_wanted != 0 && pid != pid_wanted) || !is_alive(pid))
			continue;
		found->count++;
		snprintf(found->path, sizeof(found->path), "%.80s/%d.sock", path, pid);
		snprintf(found->pids + used, sizeof(found->pids) - used, "%s%d", used > 0 ? ", " : "", pid);
	}
	if (dir != NULL)
		closedir(dir);
}

static int find(int pid, struct found *found)
{
	char path[100];

	memset(found, 0, sizeof(*found));
	for (unsigned i = 0; i < FOLDERS; i++)
		if (folder(i, path, sizeof(path)))
			look_in(path, pid, found);
	if (found->count == 1)
		return 0;
	if (found->count > 1)
		bw_error("several instances run: %s; say which with --instance PID", found->pids);
	else if (pid != 0)
		bw_error("no instance %d runs that you may ask", pid);
	else
		bw_error("no instance runs that you may ask; start one with barewire serve");
	return found->count > 1 ? -EINVAL : -ENOENT;
}

static int send_words(int fd, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const size_t bytes = strlen(argv[i]) + 1;

		if (send(fd, argv[i], bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
			return -errno;
	}
	return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

/** The first byte says what becomes of the rest. */
static int take_answer(int fd, FILE *out)
{
	char chunk[4096], status;
	char line[512];
	ssize_t got = read(fd, &status, 1);
	size_t used = 0;
	bool is_whole = false;

	if (got != 1)
		return got < 0 ? -errno : -ECONNRESET;
	while ((got = read(fd, chunk, sizeof(chunk))) > 0) {
		size_t bytes = (size_t)got;

		is_whole = chunk[bytes - 1] == '\0';
		bytes -= is_whole;
		if (status == '0') {
			fwrite(chunk, 1, bytes, out);
			continue;
		}
		bytes = BW_MIN(bytes, sizeof(line) - 1 - used);
		memcpy(line + used, chunk, bytes);
		used += bytes;
	}
	fflush(out);
	if (got < 0 || !is_whole)
		return got < 0 ? -errno : -ECONNRESET;
	if (status == '0')
		return 0;
	bw_error("%.*s", (int)used, line);
	return 1;
}

int bw_admin_ask(int pid, int argc, char **argv, FILE *out)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct found found;
	int rc = find(pid, &found), fd;

	if (rc != 0)
		return rc;
	memcpy(addr.sun_path, found.path, sizeof(addr.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		set_patience(fd);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		rc = -errno;
	} else {
		rc = send_words(fd, argc, argv);
		if (rc == 0)
			rc = take_answer(fd, out);
	}
	if (rc < 0)
		bw_error("instance %s does not answer: %s", found.pids, strerror(-rc));
	if (fd >= 0)
		close(fd);
	return rc;
}
