/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the configuration to what workers start with.
 *
 * bw_resp_conf_prepare() runs once, before there are workers and while errors can still be said and the start given
 * up: it checks the figures, reads the password, and draws what is random of this run. What it allocates is where the
 * workers note their memory (worker.c). That memory outlives them: TX may hold values until the last of them has
 * stopped, and only bw_resp_conf_release() unmaps it.
 */
#include "internal.h"

#include <base/log.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARE_BYTES_MIN (1024u * 1024)
#define BULK_BYTES_MAX  (16u << 20)
#define BULK_AUTO_MIN   (512u << 10)
#define BULK_AUTO_MAX   (4u << 20)
#define SHARE_BYTES_MAX (64ull << 30) /* what 32 bits of 16-byte units reach */

void bw_resp_conf_init(struct bw_resp_conf *conf)
{
	*conf = (struct bw_resp_conf){
		.memory_bytes_max = 256ull << 20,
		.args_max = 64 * 1024,
		.inline_bytes_max = 64 << 10,
		.stall_timeout_ns = 60 * BW_NS_PER_SEC,
		.policy = BW_RESP_ALLKEYS_LRU,
		.protected_mode = true,
	};
}

/*
 * The first line of the file; what others can read is no secret, and said. What is compared is all of the buffer, so
 * the time that it takes tells nothing.
 */
static int read_password(struct bw_resp_conf *conf)
{
	char text[sizeof(conf->password) + 2];
	int fd = open(conf->password_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), error;
	struct stat status;
	ssize_t len;

	if (fd < 0 || fstat(fd, &status) != 0 || (len = read(fd, text, sizeof(text))) < 0) {
		error = errno;
		bw_error("resp: password_file: %.200s: %s", conf->password_file, strerror(error));
		if (fd >= 0)
			close(fd);
		return -error;
	}
	close(fd);
	if (!S_ISREG(status.st_mode)) {
		bw_error("resp: password_file: %.200s is not a file; give one", conf->password_file);
		return -EINVAL;
	}
	for (ssize_t i = 0; i < len; i++)
		if (text[i] == '\n' || (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n'))
			len = i;
	if (len == 0 || (size_t)len > sizeof(conf->password) || memchr(text, '\0', (size_t)len) != NULL) {
		bw_error("resp: password_file: the first line of %.200s is %s; give 1 to %zu characters",
			conf->password_file, len == 0 ? "empty" : "no password", sizeof(conf->password));
		return -EINVAL;
	}
	if ((status.st_mode & S_IRWXO) != 0)
		bw_warn("resp: password_file: everybody on this machine can read %.200s; chmod o= it",
			conf->password_file);
	memset(conf->password, 0, sizeof(conf->password));
	memcpy(conf->password, text, (size_t)len);
	conf->password_len = (uint32_t)len;
	explicit_bzero(text, sizeof(text));
	return 0;
}

uint64_t bw_resp_memory_bytes_least(const struct bw_resp_conf *conf, unsigned workers)
{
	uint64_t bulk = conf->bulk_bytes_max != 0 ? conf->bulk_bytes_max : BULK_AUTO_MIN;
	uint64_t share = SHARE_BYTES_MIN + 8 * bulk; /* an eighth of it holds one command */

	return workers * ((share + BW_RESP__PAGE_BYTES - 1) / BW_RESP__PAGE_BYTES * BW_RESP__PAGE_BYTES);
}

uint64_t bw_resp_memory_bytes_most(unsigned workers)
{
	return workers * SHARE_BYTES_MAX;
}

uint32_t bw_resp_bulk_bytes_max(const struct bw_resp_conf *conf, unsigned workers)
{
	uint64_t share = conf->memory_bytes_max / workers;
	uint64_t room = share > SHARE_BYTES_MIN ? (share - SHARE_BYTES_MIN) / 8 : 0;

	if (conf->bulk_bytes_max != 0)
		return conf->bulk_bytes_max;
	return (uint32_t)BW_MIN(BW_MAX(room, (uint64_t)BULK_AUTO_MIN), (uint64_t)BULK_AUTO_MAX);
}

int bw_resp_conf_prepare(struct bw_resp_conf *conf)
{
	uint8_t random[20];

	if (conf->bulk_bytes_max != 0 &&
		(conf->bulk_bytes_max < 1024 || conf->bulk_bytes_max > BULK_BYTES_MAX)) {
		bw_error(
			"resp: bulk_bytes_max is %u: set it to 1024 .. 16777216, or 0", conf->bulk_bytes_max);
		return -EINVAL;
	}
	if (conf->args_max < 16 || conf->args_max > 1024 * 1024) {
		bw_error("resp: args_max is %u: set it to 16 .. 1048576", conf->args_max);
		return -EINVAL;
	}
	if (conf->inline_bytes_max < 64 || conf->inline_bytes_max > 1024 * 1024) {
		bw_error("resp: inline_bytes_max is %u: set it to 64 .. 1048576", conf->inline_bytes_max);
		return -EINVAL;
	}
	if (conf->stall_timeout_ns == 0) {
		bw_error("resp: stall_timeout must be more than 0");
		return -EINVAL;
	}
	if (conf->password_file != NULL) {
		int error = read_password(conf);

		if (error != 0)
			return error;
	}
	if (getrandom(&conf->hash_seed, sizeof(conf->hash_seed), 0) != (ssize_t)sizeof(conf->hash_seed) ||
		getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		int error = errno;

		bw_error(
			"resp: no random seed from getrandom(): %s: is /dev/urandom there?", strerror(error));
		return -error;
	}
	for (unsigned i = 0; i < sizeof(random); i++)
		snprintf(conf->run_id + 2 * i, 3, "%02x", random[i]);
	conf->shared = calloc(1, sizeof(*conf->shared));
	if (conf->shared == NULL) {
		bw_error("resp: out of memory: free some");
		return -ENOMEM;
	}
	return 0;
}

void bw_resp_conf_release(struct bw_resp_conf *conf)
{
	if (conf->shared == NULL)
		return;
	for (unsigned i = 0; i < BW_RESP__WORKERS_MAX; i++)
		if (conf->shared->maps[i].base != NULL)
			munmap(conf->shared->maps[i].base, conf->shared->maps[i].bytes);
	free(conf->shared);
	conf->shared = NULL;
}
