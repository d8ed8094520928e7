/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * On the wire: how many bytes, in 32 bits of this machine, then the words, each with its zero byte. Back comes a byte, '0'
 * or '1' for refused, and the text with a zero byte behind, without which it was cut off. Either side gives up on one that
 * says nothing for a few seconds, and the instance on one that takes longer for all it has to say.
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

/** False: fewer came, or too slowly. */
static bool read_exactly(int fd, void *out, size_t count)
{
	const time_t began = seconds();
	size_t used = 0;
	ssize_t got = 1;

	while (used < count && got > 0 && seconds() - began <= PATIENCE_S) {
		got = read(fd, (char *)out + used, count - used);
		used += got > 0 ? (size_t)got : 0;
	}
	return used == count;
}

/** Returns the bytes; 0: it is no request. */
static size_t read_request(int fd, char *out, size_t max)
{
	uint32_t bytes;

	if (!read_exactly(fd, &bytes, sizeof(bytes)) || bytes == 0 || bytes > max ||
		!read_exactly(fd, out, bytes))
		return 0;
	/* The last word ends with a zero byte, or it was cut off. */
	return out[bytes - 1] == '\0' ? bytes : 0;
}

/** Whether the other side took it all; else errno says why not. */
static bool send_all(int fd, const char *bytes, size_t count)
{
	const time_t began = seconds();
	size_t sent = 0;

	while (sent < count) {
		const ssize_t some = send(fd, bytes + sent, count - sent, MSG_NOSIGNAL);

		if (some < 0)
			return false;
		sent += (size_t)some;
		if (seconds() - began > PATIENCE_S) {
			errno = ETIMEDOUT;
			return false;
		}
	}
	return true;
}

static const struct bw_admin_command *command_of(const struct bw_admin *admin, const char *name)
{
	for (unsigned i = 0; i < admin->command_count; i++)
		if (strcmp(admin->commands[i].name, name) == 0)
			return &admin->commands[i];
	return NULL;
}

/** Say what a request comes to. Returns whether the connection is the command's now. */
static bool answer(const struct bw_admin *admin, int fd, int argc, char **argv)
{
	const struct bw_admin_command *command = command_of(admin, argv[0]);
	char *text = NULL;
	size_t text_bytes = 0;
	FILE *out = open_memstream(&text, &text_bytes);
	int rc = -EINVAL;
	bool is_taken;

	if (out == NULL)
		return false;
	fputc('0', out);
	if (command != NULL)
		rc = command->run(admin->arg, argc - 1, argv + 1, out);
	else
		fprintf(out, "%.60s: this instance knows no such command; is it of another version?",
			argv[0]);
	fputc('\0', out);
	fclose(out);
	if (text != NULL && rc != 0)
		text[0] = '1';
	is_taken = text != NULL && send_all(fd, text, text_bytes);
	free(text);
	if (rc != 0 || command->keep == NULL)
		return false;
	command->keep(admin->arg, is_taken ? fd : -1);
	return is_taken;
}

/** Takes the descriptor. */
static void serve_one(const struct bw_admin *admin, int fd)
{
	char *request = malloc(REQUEST_BYTES_MAX);
	char **argv = calloc(WORDS_MAX, sizeof(*argv));
	bool is_kept = false;
	size_t bytes = 0;
	int argc = 0;

	if (request != NULL && argv != NULL) {
		set_patience(fd);
		bytes = read_request(fd, request, REQUEST_BYTES_MAX);
	}
	if (bytes > 0) {
		for (char *word = request; word < request + bytes && argc < WORDS_MAX;
			word += strlen(word) + 1)
			argv[argc++] = word;
		is_kept = answer(admin, fd, argc, argv);
	}
	if (!is_kept)
		close(fd);
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
	uint32_t total = 0;

	for (int i = 0; i < argc; i++)
		total += (uint32_t)strlen(argv[i]) + 1;
	if (!send_all(fd, (const char *)&total, sizeof(total)))
		return -errno;
	for (int i = 0; i < argc; i++)
		if (!send_all(fd, argv[i], strlen(argv[i]) + 1))
			return -errno;
	return 0;
}

/** Up to the zero byte, and not beyond it: what follows may be the command's. 0, or -errno. */
static int take_text(int fd, FILE *out)
{
	char chunk[4096];
	ssize_t got;

	while ((got = recv(fd, chunk, sizeof(chunk), MSG_PEEK)) > 0) {
		const char *end = memchr(chunk, '\0', (size_t)got);
		const size_t bytes = end != NULL ? (size_t)(end - chunk) : (size_t)got;

		if (!read_exactly(fd, chunk, bytes + (end != NULL)))
			return -ECONNRESET;
		fwrite(chunk, 1, bytes, out);
		if (end != NULL)
			return fflush(out) == 0 ? 0 : -errno;
	}
	return got < 0 ? -errno : -ECONNRESET;
}

/** The first byte says what becomes of the rest. */
static int take_answer(int fd, FILE *out)
{
	char status, *line = NULL;
	size_t line_bytes = 0;
	FILE *refusal;
	int rc;

	if (!read_exactly(fd, &status, 1))
		return -ECONNRESET;
	if (status == '0')
		return take_text(fd, out);
	refusal = open_memstream(&line, &line_bytes);
	if (refusal == NULL)
		return -ENOMEM;
	rc = take_text(fd, refusal);
	fclose(refusal);
	if (rc == 0) {
		bw_error("%.500s", line);
		rc = 1;
	}
	free(line);
	return rc;
}

int bw_admin_ask_on(int pid, int argc, char **argv, FILE *out, int *left)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct found found;
	int rc = find(pid, &found), fd;

	*left = -1;
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
	if (rc == 0)
		*left = fd;
	else if (fd >= 0)
		close(fd);
	return rc;
}

int bw_admin_ask(int pid, int argc, char **argv, FILE *out)
{
	int left, rc = bw_admin_ask_on(pid, argc, argv, out, &left);

	if (left >= 0)
		close(left);
	return rc;
}
