/* SPDX-License-Identifier: BSD-3-Clause */
/** RESP: the service, with one worker or two. */
#include <base/log.h>
#include <service/resp.h>

#include "resp_internal.h"
#include "service.h"

static struct bw_resp_conf conf;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	bw_log_set_level(BW_LOG_ERROR);
	return 0;
}

static unsigned workers_of(const struct fake *f)
{
	return bw_context_worker_count(fake_context((struct fake *)(uintptr_t)f, 0));
}

struct fake *fuzz_service_start(uint8_t settings)
{
	unsigned workers = settings & 1 ? 2 : 1;

	bw_resp_conf_init(&conf);
	conf.bulk_bytes_max = 4096;
	conf.args_max = 64;
	conf.inline_bytes_max = 1024;
	conf.evicts = !(settings & 2);
	conf.memory_bytes_max = bw_resp_memory_bytes_least(&conf, workers);
	BW_ASSERT_EQ(bw_resp_conf_prepare(&conf), 0);
	conf.hash_seed = 42;
	return fake_create(&bw_resp_service, &conf, workers);
}

void fuzz_service_stop(struct fake *f)
{
	for (unsigned i = 0; i < workers_of(f); i++)
		bw_resp__store_check(&((struct bw_resp *)bw_context_state(fake_context(f, i)))->store);
	fake_destroy(f);
	bw_resp_conf_release(&conf);
}

/** The end of a reply that is well formed, and whole. NULL: it is not. */
static const char *skip_reply(const char *at, const char *end, unsigned depth)
{
	const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
	char type;
	long n;

	if (line_end == NULL)
		return NULL;
	type = *at++;
	if (type == '+' || type == '-')
		return memchr(at, '\n', (size_t)(line_end - at)) == NULL ? line_end + 2 : NULL;
	n = strtol(at, (char **)(uintptr_t)&at, 10);
	if (at != line_end || depth == 0)
		return NULL;
	at += 2;
	switch (type) {
	case ':':
		return at;
	case '$':
		if (n < 0)
			return n == -1 ? at : NULL;
		return end - at >= n + 2 && memcmp(at + n, "\r\n", 2) == 0 ? at + n + 2 : NULL;
	case '*':
		for (; n > 0 && at != NULL; n--)
			at = skip_reply(at, end, depth - 1);
		return at;
	default:
		return NULL;
	}
}

void fuzz_service_check(const char *output, size_t len, bool is_whole)
{
	const char *at = output, *end = output + len;

	while (is_whole && at < end) {
		at = skip_reply(at, end, 8);
		BW_ASSERT(at != NULL);
	}
}

/** INFO counts calls. */
size_t fuzz_service_strip(char *output, size_t len)
{
	return memmem(output, len, "# S", 3) != NULL ? 0 : len;
}

/** An error is no end: what comes behind it counts, however it is cut. */
bool fuzz_service_may_differ(const char *a, size_t a_len, const char *b, size_t b_len)
{
	(void)a;
	(void)a_len;
	(void)b;
	(void)b_len;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_service_one(data, size);
	return 0;
}
