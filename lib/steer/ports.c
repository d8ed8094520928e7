/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/log.h>
#include <steer/ports.h>

#define HOLDS_MAX  BW_STEER_PORTS_MAX
#define TCP_LISTEN 10 /* net/tcp_states.h of the kernel */
#define UDP_BOUND  7  /* its TCP_CLOSE, which stands for a socket without a peer */

struct bw_steer_holds {
	unsigned count;
	struct hold {
		struct bw_steer_port port;
		int fd; /* -1: not to be bound, but nobody listened there */
	} hold[HOLDS_MAX];
};

/* ---- who listens? --------------------------------------------------------------------------------------------- */

/* An address as /proc/net has it: words in the host's order. False: another length. */
static bool parse_hex_ip(const char *hex, size_t digits, struct bw_ip *ip)
{
	uint32_t w[4] = { 0 };

	if (digits != 8 && digits != 32)
		return false;
	for (unsigned i = 0; i < digits / 8; i++) {
		char word[9] = { 0 };

		memcpy(word, hex + 8 * i, 8);
		w[i] = (uint32_t)strtoul(word, NULL, 16);
	}
	if (digits == 8)
		*ip = bw_ip_from_v4(w[0]);
	else
		memcpy(ip->w_be, w, sizeof(w));
	return true;
}

/* Does a socket of the address get what is sent to `ip`? One of :: is taken to have IPv4's, too. */
static bool covers(const struct bw_ip *bound, const struct bw_ip *ip)
{
	if (bw_ip_is_unspecified(bound))
		return !bw_ip_is_v4(bound) || bw_ip_is_v4(ip);
	return bw_ip_eq(bound, ip);
}

/* The inode of a socket of that table that has the port; 0: none. */
static uint64_t find_in(const char *path, unsigned state_wanted, const struct bw_steer_port *port)
{
	FILE *table = fopen(path, "re");
	char line[512];
	uint64_t found = 0;

	while (table != NULL && found == 0 && fgets(line, sizeof(line), table) != NULL) {
		char local[40];
		unsigned local_port, state;
		uint64_t inode;
		struct bw_ip ip;

		if (sscanf(line,
			    " %*u: %39[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64,
			    local, &local_port, &state, &inode) == 4 &&
			state == state_wanted && local_port == port->port &&
			parse_hex_ip(local, strlen(local), &ip) && covers(&ip, &port->ip))
			found = inode;
	}
	if (table != NULL)
		fclose(table);
	return found;
}

static bool has_socket(const char *pid, uint64_t inode)
{
	char path[300], target[64], wanted[64];
	struct dirent *entry;
	bool is_found = false;
	DIR *fds;

	snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	fds = opendir(path);
	while (fds != NULL && !is_found && (entry = readdir(fds)) != NULL) {
		ssize_t bytes;

		snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid, entry->d_name);
		bytes = readlink(path, target, sizeof(target) - 1);
		target[bytes > 0 ? bytes : 0] = '\0';
		is_found = strcmp(target, wanted) == 0;
	}
	if (fds != NULL)
		closedir(fds);
	return is_found;
}

static void name_process(uint64_t inode, char *out, size_t out_bytes)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	snprintf(out, out_bytes, "another process listens there");
	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		char path[64], name[32] = "";
		FILE *comm;

		if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(entry->d_name, inode))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", entry->d_name);
		comm = fopen(path, "re");
		if (comm != NULL && fgets(name, sizeof(name), comm) != NULL)
			name[strcspn(name, "\n")] = '\0';
		if (comm != NULL)
			fclose(comm);
		snprintf(out, out_bytes, "%s (process %.20s) listens there", name, entry->d_name);
		break;
	}
	if (proc != NULL)
		closedir(proc);
}

/* ---- holding --------------------------------------------------------------------------------------------------- */

static int bind_to(const struct bw_steer_port *port)
{
	const bool is_v4 = bw_ip_is_v4(&port->ip), is_tcp = port->proto == IPPROTO_TCP;
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port->port) };
	int fd = socket(is_v4 ? AF_INET : AF_INET6, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	int on = 1, off = 0, rc;

	if (fd < 0)
		return -1;
	/* What is in TIME_WAIT there is in nobody's way; but once it is bound, it is to be in everybody's. */
	if (is_tcp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (is_v4) {
		v4.sin_addr.s_addr = bw_ip_v4_be(&port->ip);
		rc = bind(fd, (const struct sockaddr *)&v4, sizeof(v4));
	} else {
		memcpy(&v6.sin6_addr, &port->ip, sizeof(v6.sin6_addr));
		rc = bind(fd, (const struct sockaddr *)&v6, sizeof(v6));
	}
	if (rc != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof(off));
	return fd;
}

/* 0, with a socket that is bound to it or -1; or -EADDRINUSE and who has it. */
static int hold_one(const struct bw_steer_port *port, int *fd, char *who, size_t who_bytes)
{
	const bool is_tcp = port->proto == IPPROTO_TCP;
	const unsigned state = is_tcp ? TCP_LISTEN : UDP_BOUND;
	uint64_t inode = 0;

	if (bw_ip_is_v4(&port->ip))
		inode = find_in(is_tcp ? "/proc/net/tcp" : "/proc/net/udp", state, port);
	if (inode == 0)
		inode = find_in(is_tcp ? "/proc/net/tcp6" : "/proc/net/udp6", state, port);
	if (inode != 0) {
		name_process(inode, who, who_bytes);
		return -EADDRINUSE;
	}
	*fd = bind_to(port);
	if (*fd >= 0 || errno != EADDRINUSE)
		return 0;
	snprintf(who, who_bytes, "another process has bound it"); /* as another instance does */
	return -EADDRINUSE;
}

static bool is_held(const struct bw_steer_holds *holds, const struct bw_steer_port *port)
{
	for (unsigned i = 0; i < holds->count; i++) {
		const struct bw_steer_port *held = &holds->hold[i].port;

		if (held->port == port->port && held->proto == port->proto && bw_ip_eq(&held->ip, &port->ip))
			return true;
	}
	return false;
}

int bw_steer_hold(
	const char *spec, const struct bw_steer_port *ports, unsigned count, struct bw_steer_holds **holds)
{
	if (*holds == NULL)
		*holds = calloc(1, sizeof(**holds));
	if (*holds == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < count && (*holds)->count < HOLDS_MAX; i++) {
		const struct bw_steer_port *port = &ports[i];
		char ip[BW_IP_STRLEN], who[96];
		int fd = -1;

		if (is_held(*holds, port))
			continue;
		if (hold_one(port, &fd, who, sizeof(who)) != 0) {
			if (spec != NULL)
				bw_error(
					"--dev %s: %s port %u of %s is taken: %s; stop it, take another port, or take it "
					"from it with --steal",
					spec, port->proto == IPPROTO_TCP ? "TCP" : "UDP", port->port,
					bw_ip_format(&port->ip, ip), who);
			return -EADDRINUSE;
		}
		(*holds)->hold[(*holds)->count++] = (struct hold){ *port, fd };
	}
	return 0;
}

void bw_steer_let_go(struct bw_steer_holds *holds, bool (*is_there)(const void *arg, const struct bw_ip *ip),
	const void *arg)
{
	unsigned kept = 0;

	for (unsigned i = 0; holds != NULL && i < holds->count; i++) {
		if (is_there(arg, &holds->hold[i].port.ip))
			holds->hold[kept++] = holds->hold[i];
		else if (holds->hold[i].fd >= 0)
			close(holds->hold[i].fd);
	}
	if (holds != NULL)
		holds->count = kept;
}

void bw_steer_release(struct bw_steer_holds *holds)
{
	for (unsigned i = 0; holds != NULL && i < holds->count; i++)
		if (holds->hold[i].fd >= 0)
			close(holds->hold[i].fd);
	free(holds);
}
