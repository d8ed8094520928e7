/* SPDX-License-Identifier: BSD-3-Clause */
/* The sockets in the file system at which the two ends of a memif or of a vhost-user device meet. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <base/log.h>

#include "internal.h"

#define DESCRIPTORS_SCANNED 4096

_Static_assert(
	BW_NIC__SOCKET_PATH_BYTES == sizeof(((struct sockaddr_un *)0)->sun_path), "what a path must fit");

static int bad_directory(const char *spec, int err)
{
	bw_error("--dev %s: the socket's directory: %s", spec, strerror(err));
	return err == EACCES || err == EROFS ? -EACCES : -ENODEV;
}

int bw_nic__socket_path(
	const char *spec, const char *form, const char *given, char out[BW_NIC__SOCKET_PATH_BYTES])
{
	char dir[PATH_MAX], real[PATH_MAX], path[PATH_MAX];
	const char *slash = strrchr(given, '/');
	const char *file = slash != NULL ? slash + 1 : given;
	const size_t dir_len = slash != NULL ? (size_t)(slash - given) : 0;
	int len;

	if (file[0] == '\0') {
		bw_error("--dev %s: no socket is named; write %s:SOCKET, a path", spec, form);
		return -EINVAL;
	}
	snprintf(dir, sizeof(dir), "%.*s", (int)BW_MIN(dir_len, sizeof(dir) - 1), given);
	if (realpath(slash == NULL ? "." : dir_len == 0 ? "/" : dir, real) == NULL || access(real, X_OK) != 0)
		return bad_directory(spec, errno);
	/* "/.": net_memif takes the empty directory name of "/file" for a missing one. */
	len = snprintf(path, sizeof(path), "%s/%s", strcmp(real, "/") == 0 ? "/." : real, file);
	if (len < 0 || len >= BW_NIC__SOCKET_PATH_BYTES) {
		bw_error("--dev %s: the socket's path has more than %d bytes: %.120s", spec,
			BW_NIC__SOCKET_PATH_BYTES - 1, path);
		return -EINVAL;
	}
	memcpy(out, path, (size_t)len + 1);
	return 0;
}

/*
 * By a connection of a type that no device's socket has: it cannot come about, so that who listens is not bothered.
 * 0: nobody does, -EPROTOTYPE: somebody, or another -errno.
 */
static int knock(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	rc = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? -EPROTOTYPE : -errno;
	close(fd);
	/* The file outlived its process. */
	return rc == -ECONNREFUSED ? 0 : rc;
}

bool bw_nic__socket_is_stale(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && knock(path) == 0;
}

static int not_a_socket(const char *spec, const char *path)
{
	bw_error("--dev %s: %s exists and is not a socket; name another path", spec, path);
	return -EBUSY;
}

/* As a server, in its directory. */
static int may_create(const char *spec, const char *path)
{
	char dir[BW_NIC__SOCKET_PATH_BYTES];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		*slash = '\0';
	return access(dir[0] != '\0' ? dir : "/", W_OK) == 0 ? 0 : bad_directory(spec, errno);
}

int bw_nic__socket_claim(const char *spec, const char *path)
{
	struct stat st;
	int rc;

	if (lstat(path, &st) != 0)
		return may_create(spec, path);
	if (!S_ISSOCK(st.st_mode))
		return not_a_socket(spec, path);
	rc = knock(path);
	if (rc == -EPROTOTYPE) {
		bw_error(
			"--dev %s: another process listens on %s; stop it, name another path, or be its client with "
			"role=client",
			spec, path);
		return -EBUSY;
	}
	if (rc != 0) {
		bw_error("--dev %s: who listens on %s? %s; name another path", spec, path, strerror(-rc));
		return rc;
	}
	if (unlink(path) != 0) {
		rc = -errno;
		bw_error("--dev %s: cannot remove the stale socket %s: %s", spec, path, strerror(-rc));
		return rc;
	}
	return 0;
}

int bw_nic__socket_may_connect(const char *spec, const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return 0;
	if (S_ISSOCK(st.st_mode) && access(path, R_OK | W_OK) != 0) {
		const int err = errno;

		bw_error(
			"--dev %s: may not connect to %s: %s; run as the user that made it, or have it opened to yours",
			spec, path, strerror(err));
		return -EACCES;
	}
	return S_ISSOCK(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : not_a_socket(spec, path);
}

static const char *file_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/*
 * A server's name is the text that it gave itself, which may lead there by links that we do not, from a directory of its
 * own, or nowhere any more. In doubt it is the one: who is connected here to a name is connected to no other.
 */
static bool is_name_of(const char *name, const char *path)
{
	struct stat named, ours;

	if (strcmp(name, path) == 0)
		return true;
	if (name[0] != '/')
		return strcmp(file_of(name), file_of(path)) == 0;
	return stat(name, &named) != 0 || stat(path, &ours) != 0 ||
	       (named.st_dev == ours.st_dev && named.st_ino == ours.st_ino);
}

/* The other end's name is a client's, the own a server's: of its listening descriptor, and of those that came of that. */
static bool is_at(int fd, const char *path, bool is_server)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr);
	char name[sizeof(addr.sun_path) + 1] = "";
	int type = 0;
	socklen_t type_len = sizeof(type);

	if ((is_server ? getsockname : getpeername)(fd, (struct sockaddr *)&addr, &len) != 0 ||
		addr.sun_family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path) ||
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) != 0 || type != SOCK_STREAM)
		return false;
	memcpy(name, addr.sun_path, sizeof(addr.sun_path));
	if (name[0] == '\0') /* an abstract one */
		return false;
	return is_server ? strcmp(name, path) == 0 : is_name_of(name, path);
}

int bw_nic__socket_find(const char *path, bool is_server)
{
	struct sockaddr_un peer;

	for (int fd = 0; fd < DESCRIPTORS_SCANNED; fd++) {
		socklen_t len = sizeof(peer);

		if (is_at(fd, path, is_server) && getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
			return fd;
	}
	return -1;
}

void bw_nic__socket_close(const char *path, bool is_server)
{
	for (int fd = 0; fd < DESCRIPTORS_SCANNED; fd++)
		if (is_at(fd, path, is_server))
			close(fd);
}

void bw_nic__socket_shut(const char *path, bool is_server)
{
	for (int fd = 0; fd < DESCRIPTORS_SCANNED; fd++)
		if (is_at(fd, path, is_server))
			(void)shutdown(fd, SHUT_RDWR);
}
