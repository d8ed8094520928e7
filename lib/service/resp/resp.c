/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cache that speaks the Redis protocol. Theory of operation.
 *
 * The fast path. data() takes one command after the other out of the views. A command that lies in one view is
 * parsed in place, its key hashed once; the low half of the hash finds the key, the high half names the worker that
 * owns it. Where that is this one, the command runs and writes its reply into the window: a reservation in the tail
 * of the send queue, committed once a call. Before a command runs there is room for the longest short reply, so no
 * reply is ever lost. Values of 512 bytes and more are attached by reference.
 *
 * What does not fit. A client that does not read fills its send queue; then commands are left unread, which closes
 * the window it sends into; and after stall_timeout it is reset, for what it has asked for holds requests and values
 * that others need. A large value on its way out is a state of the connection (conn.emit): it continues in
 * writable(), piece by piece, whatever the queue's size, and nothing behind it runs meanwhile.
 *
 * A command that straddles views, or is larger than the receive window, is gathered into staged memory of the store,
 * bounded for a command and in all (parse.h), with a part that only small ones may use. One that stalls before it
 * is whole ends its connection. A large value becomes the key's without being copied again.
 *
 * Other workers' keys. Then the command becomes a request: its arguments in a gather, it travels as mail to the
 * owner, which runs it, writes the reply into it and posts it back. Requests of a connection queue up, and
 * whatever comes behind the first of them is answered into a request too, so that replies leave in order. A command
 * with keys of several owners is posted to each in parts, which read the same gather; the last part that comes home
 * makes the reply. It is not atomic across workers: another client may see some of an MSET's keys before the others.
 * Between two workers mail keeps its order, so a client always sees its own writes.
 *
 * Who owns what. Requests and gathers are of their connection's worker; others only read and fill them while they
 * have the mail. Values are of their key's worker; a reply pins them by an atomic count, and the last to let go
 * returns them (slab.h). A connection that ends leaves its requests to come home and be freed.
 *
 * With one worker there is no request but for a long MGET.
 *
 * Requests are a worker's, and there is an end of them. A command that needs none never waits for one; and the fewer
 * are left, the fewer one connection may have (a dynamic threshold: Choudhury and Hahne, 1998), so that those who
 * have many leave some to those who have none.
 */
#include "internal.h"

#include <base/log.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define WINDOW_BYTES    1024u /* what bw_stream_reserve() gives at most */
#define REQUESTS_MAX    8192u /* a worker */
#define WAITING_MAX     128u  /* a connection */
#define WAITING_PART    8u    /* and at most this part of what is free */
#define WORKERS_MAX     64u
#define RETRY_NS        BW_NS_PER_MS /* where memory or requests ran out */
#define STALL_RATE      16384u       /* bytes a second at which a command that arrives is never late */
#define RESYNC_NS       (60 * BW_NS_PER_SEC)
#define SWEEP_NS        BW_NS_PER_MS
#define SWEEP_BUCKETS   32u
#define SWEEP_ROUNDS    8u
#define SHARE_BYTES_MIN (1024u * 1024)
#define SHARE_BYTES_MAX (64ull << 30) /* what 32 bits of 16-byte units reach */

/* ---- configuration ---- */

/* What the workers' memory is mapped at: TX may hold values until the last of them has stopped. */
struct bw_resp_shared {
	struct {
		void *base;
		size_t bytes;
	} maps[WORKERS_MAX];
};

void bw_resp_conf_init(struct bw_resp_conf *conf)
{
	*conf = (struct bw_resp_conf){
		.memory_bytes_max = 256ull << 20,
		.bulk_bytes_max = 512 << 10,
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
	uint64_t share =
		SHARE_BYTES_MIN + 8ull * conf->bulk_bytes_max; /* an eighth of it holds one command */

	return workers * ((share + BW_RESP__PAGE_BYTES - 1) / BW_RESP__PAGE_BYTES * BW_RESP__PAGE_BYTES);
}

uint64_t bw_resp_memory_bytes_most(unsigned workers)
{
	return workers * SHARE_BYTES_MAX;
}

int bw_resp_conf_prepare(struct bw_resp_conf *conf)
{
	uint8_t random[20];

	if (conf->bulk_bytes_max < 1024 || conf->bulk_bytes_max > 16u << 20) {
		bw_error("resp: bulk_bytes_max is %u: set it to 1024 .. 16777216", conf->bulk_bytes_max);
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
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		if (conf->shared->maps[i].base != NULL)
			munmap(conf->shared->maps[i].base, conf->shared->maps[i].bytes);
	free(conf->shared);
	conf->shared = NULL;
}

/* ---- small things ---- */

static struct bw_resp *resp_of(struct bw_context *ctx)
{
	return bw_context_state(ctx);
}

static void set_now(struct bw_resp *r, bw_ns now)
{
	bw_resp__store_set_now(&r->store, (now + r->wall_ns) / BW_NS_PER_MS);
}

/* Once a minute: wall clocks are stepped, and drift against ours. */
static void resync(struct bw_resp *r, bw_ns now)
{
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	/* Modulo 2^64, where the context's clock is ahead. */
	r->wall_ns = (uint64_t)wall.tv_sec * BW_NS_PER_SEC + (uint64_t)wall.tv_nsec - now;
	r->resync_at = now + RESYNC_NS;
}

struct bw_resp__keyhash bw_resp__hash_key(const struct bw_resp *r, const uint8_t *key, uint32_t len)
{
	uint64_t hash = XXH3_64bits_withSeed(key, len, r->hash_seed);

	return (struct bw_resp__keyhash){
		.owner = (uint32_t)((hash >> 32) * r->workers >> 32),
		.hash = (uint32_t)hash,
	};
}

/*
 * The stream's one timer is set for what stopped the connection last, since whatever calls it in between tries all of
 * it again. When it fires, it looks at the deadline too.
 */
static void retry_soon(struct bw_stream *s)
{
	bw_stream_set_timer(s, bw_stream_now(s) + RETRY_NS);
}

static bool is_arriving(const struct bw_resp__gather *gather)
{
	return gather != NULL && gather->state != BW_RESP__GATHER_COMPLETE;
}

/* When a client that keeps what others need, and does not go on, is given up. */
static bw_ns deadline_of(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	bw_ns since = conn->stuck_at != 0 ? conn->stuck_at : BW_NEVER;

	if (is_arriving(conn->gather))
		since = BW_MIN(since, conn->gather->progress_at);
	return since != BW_NEVER ? since + r->conf->stall_timeout_ns : BW_NEVER;
}

/*
 * A send of `len` bytes was refused. Where the queue is too full writable() will tell, or the client does not read;
 * where there is room it was the pool that had no buffer, and nothing tells when it has one again. Always false.
 */
static bool refused(struct bw_stream *s, uint32_t len)
{
	struct bw_resp__conn *conn = bw_stream_state(s);

	if (bw_stream_space(s) >= len) {
		retry_soon(s);
		return false;
	}
	if (conn->stuck_at == 0)
		conn->stuck_at = bw_stream_now(s);
	bw_stream_set_timer(s, deadline_of(resp_of(bw_stream_context(s)), conn));
	return false;
}

/* ---- the window ---- */

static void window_commit(struct bw_resp *r)
{
	/* Also of nothing: it gives back what was reserved. */
	if (r->out_stream != NULL)
		bw_stream_commit(r->out_stream, (uint32_t)(r->out - r->out_begin));
	r->out_stream = NULL;
}

/* Room for one reply's text. False: not now; resp_resume() comes when there is. */
static bool window_open(struct bw_resp *r, struct bw_stream *s)
{
	if (bw_likely(r->out_stream == s && r->out_end - r->out >= (ptrdiff_t)BW_RESP__TEXT_MAX))
		return true;
	window_commit(r);
	r->out_begin = r->out = bw_stream_reserve(s, WINDOW_BYTES);
	if (r->out == NULL)
		return refused(s, WINDOW_BYTES);
	r->out_end = r->out + WINDOW_BYTES;
	r->out_stream = s;
	return true;
}

/* ---- requests ---- */

struct bw_resp__request *bw_resp__request_alloc(struct bw_resp *r, const struct bw_resp__command *command)
{
	struct bw_resp__request *request = r->requests_free;

	BW_ASSERT(request != NULL); /* bw_resp__has_requests() looked */
	r->requests_free = request->next;
	r->requests_free_count--;
	/* All but the text. */
	memset(request, 0, offsetof(struct bw_resp__request, text));
	request->home = r;
	request->command = command;
	return request;
}

static void parts_free(struct bw_resp__request *whole)
{
	while (whole->parts != NULL) {
		struct bw_resp__request *part = whole->parts;

		whole->parts = part->next;
		bw_resp__request_free(whole->home, part);
	}
}

void bw_resp__request_free(struct bw_resp *r, struct bw_resp__request *request)
{
	parts_free(request);
	if (request->value != NULL)
		bw_resp__block_unpin(request->value);
	if (request->gather != NULL)
		bw_resp__gather_free(&r->store, request->gather);
	if (request->rows != NULL)
		bw_resp__blob_free(&r->store, request->rows);
	request->next = r->requests_free;
	r->requests_free = request;
	r->requests_free_count++;
}

/* For any one command: its own, and a part for every other worker? */
bool bw_resp__has_requests(const struct bw_resp *r)
{
	return r->requests_free_count > r->workers;
}

/* One more in the connection's queue. */
struct bw_resp__request *bw_resp__request_push(struct bw_resp__call *call)
{
	struct bw_resp__request *request = bw_resp__request_alloc(call->r, call->command);
	struct bw_resp__conn *conn = call->conn;

	request->stream = call->stream;
	request->is_resp3 = call->is_resp3;
	if (conn->last != NULL)
		conn->last->next = request;
	else
		conn->first = request;
	conn->last = request;
	conn->waiting_count++;
	return request;
}

/* ---- replies ---- */

void bw_resp__reply_text(struct bw_resp__call *call, const char *text, uint32_t len)
{
	struct bw_resp__request *request = call->request;

	BW_ASSERT_LE(len, BW_RESP__TEXT_MAX);
	if (bw_likely(request == NULL)) {
		memcpy(call->r->out, text, len);
		call->r->out += len;
		return;
	}
	memcpy(request->text, text, len);
	request->text_len = len;
}

void bw_resp__reply_nil(struct bw_resp__call *call)
{
	char text[8];

	bw_resp__reply_text(call, text, (uint32_t)(bw_resp__put_nil(text, call->is_resp3) - text));
}

void bw_resp__reply_int(struct bw_resp__call *call, int64_t value)
{
	char text[32];
	uint32_t len;

	text[0] = ':';
	len = 1 + bw_resp__format_int(text + 1, value);
	memcpy(text + len, "\r\n", 2);
	bw_resp__reply_text(call, text, len + 2);
}

void bw_resp__reply_error(struct bw_resp__call *call, const char *format, ...)
{
	char text[BW_RESP__TEXT_MAX];
	va_list args;
	int len;

	call->r->errors++;
	text[0] = '-';
	va_start(args, format);
	len = 1 + vsnprintf(text + 1, sizeof(text) - 3, format, args);
	va_end(args);
	len = BW_MIN(len, (int)sizeof(text) - 3);
	/* As Redis does with what it quotes: an end of line at the end goes, others are blanks. */
	while (text[len - 1] == '\r' || text[len - 1] == '\n')
		len--;
	for (int i = 1; i < len; i++)
		if (text[i] == '\r' || text[i] == '\n')
			text[i] = ' ';
	memcpy(text + len, "\r\n", 2);
	bw_resp__reply_text(call, text, (uint32_t)len + 2);
}

void bw_resp__reply_syntax_error(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR syntax error");
}

void bw_resp__reply_not_an_integer(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "ERR value is not an integer or out of range");
}

void bw_resp__reply_oom(struct bw_resp__call *call)
{
	bw_resp__reply_error(call, "OOM command not allowed when used memory > 'maxmemory'.");
}

void bw_resp__reply_arity(struct bw_resp__call *call, const char *name)
{
	bw_resp__reply_error(call, "ERR wrong number of arguments for '%s' command", name);
}

/* "$12\r\n" */
static char *put_header(char *to, uint32_t len)
{
	*to++ = '$';
	to += bw_resp__format_int(to, len);
	return mempcpy(to, "\r\n", 2);
}

/* @len  bytes of the value, from @offset on */
static void emit_begin(
	struct bw_resp__conn *conn, struct bw_resp__block *block, bool is_bulk, uint32_t offset, uint32_t len)
{
	struct bw_resp__chunk *chunk = block->kind == BW_RESP__CHUNK ? (struct bw_resp__chunk *)block : NULL;

	while (chunk != NULL && offset > 0 && offset >= chunk->len) {
		offset -= chunk->len;
		chunk = chunk->next;
	}
	conn->emit = block;
	conn->emit_chunk = chunk;
	conn->emit_off = (uint16_t)offset; /* within a page */
	conn->emit_left = len & 0x7fffffff;
	conn->emit_is_bulk = is_bulk;
}

/* What is too long for the text; the pin is taken over. The header, where it is a bulk, is written before. */
static void reply_by_reference(
	struct bw_resp__call *call, struct bw_resp__block *block, bool is_bulk, uint32_t offset, uint32_t len)
{
	if (call->request != NULL) {
		call->request->value = block;
		call->request->value_is_bulk = is_bulk;
		call->request->value_off = offset;
		call->request->value_len = len;
		return;
	}
	emit_begin(call->conn, block, is_bulk, offset, len);
}

static void reply_header(struct bw_resp__call *call, uint32_t len)
{
	char text[32];

	bw_resp__reply_text(call, text, (uint32_t)(put_header(text, len) - text));
}

static void reply_short_bulk(struct bw_resp__call *call, const void *data, uint32_t len)
{
	struct bw_resp__request *request = call->request;
	char *begin = request == NULL ? call->r->out : request->text, *to = put_header(begin, len);

	to = mempcpy(to, data, len);
	to = mempcpy(to, "\r\n", 2);
	if (bw_likely(request == NULL))
		call->r->out = to;
	else
		request->text_len = (uint32_t)(to - begin);
}

/* "=16\r\ntxt:" */
static char *put_verbatim_header(char *to, uint32_t len)
{
	*to++ = '=';
	to += bw_resp__format_int(to, (int64_t)len + 4);
	return mempcpy(to, "\r\ntxt:", 6);
}

enum framing {
	FRAMED, /* it is already */
	BULK,
	VERBATIM,
};

static void reply_staged(struct bw_resp__call *call, const void *data, uint32_t len, enum framing framing)
{
	struct bw_resp__chunk *blob = NULL;
	char text[32];

	if (!bw_resp__blob_append(&call->r->store, &blob, data, len, 0)) {
		if (blob != NULL)
			bw_resp__blob_free(&call->r->store, blob);
		bw_resp__reply_oom(call);
		return;
	}
	if (framing == BULK)
		reply_header(call, len);
	else if (framing == VERBATIM)
		bw_resp__reply_text(call, text, (uint32_t)(put_verbatim_header(text, len) - text));
	reply_by_reference(call, &blob->b, framing != FRAMED, 0, len);
}

void bw_resp__reply_bulk(struct bw_resp__call *call, const void *data, uint32_t len)
{
	if (len < BW_RESP__REF_MIN)
		reply_short_bulk(call, data, len);
	else
		reply_staged(call, data, len, BULK);
}

void bw_resp__reply_verbatim(struct bw_resp__call *call, const void *data, uint32_t len)
{
	char text[BW_RESP__REF_MIN + 32], *to = text;

	if (!call->is_resp3) {
		bw_resp__reply_bulk(call, data, len);
	} else if (len >= BW_RESP__REF_MIN) {
		reply_staged(call, data, len, VERBATIM);
	} else {
		to = put_verbatim_header(to, len);
		to = mempcpy(to, data, len);
		to = mempcpy(to, "\r\n", 2);
		bw_resp__reply_text(call, text, (uint32_t)(to - text));
	}
}

void bw_resp__reply_text_and_blob(
	struct bw_resp__call *call, const char *text, uint32_t len, struct bw_resp__chunk *blob)
{
	bw_resp__reply_text(call, text, len);
	reply_by_reference(call, &blob->b, false, 0, blob->total_bytes);
}

void bw_resp__reply_framed(struct bw_resp__call *call, const void *data, uint32_t len)
{
	if (len <= BW_RESP__TEXT_MAX)
		bw_resp__reply_text(call, data, len);
	else
		reply_staged(call, data, len, FRAMED);
}

void bw_resp__reply_arg(struct bw_resp__call *call, const struct bw_resp__arg *arg)
{
	struct bw_resp__chunk *blob = bw_resp__arg_blob(arg);

	if (blob == NULL) {
		bw_resp__reply_bulk(call, arg->data, arg->len);
		return;
	}
	arg->rec->blob = NULL;
	reply_header(call, arg->len);
	reply_by_reference(call, &blob->b, true, 0, arg->len);
}

void bw_resp__reply_block(struct bw_resp__call *call, struct bw_resp__block *block)
{
	uint32_t len = bw_resp__block_value_bytes(block);

	/* A blob is longer than that. */
	if (len < BW_RESP__REF_MIN) {
		reply_short_bulk(call, bw_resp__item_value((struct bw_resp__item *)block), len);
		bw_resp__block_unpin(block);
		return;
	}
	reply_header(call, len);
	reply_by_reference(call, block, true, 0, len);
}

void bw_resp__reply_value(struct bw_resp__call *call, struct bw_resp__item *item)
{
	struct bw_resp__block *block;

	if (item == NULL) {
		bw_resp__reply_nil(call);
		return;
	}
	if (bw_likely(item->value_bytes < BW_RESP__REF_MIN)) {
		reply_short_bulk(call, bw_resp__item_value(item), item->value_bytes);
		return;
	}
	block = bw_resp__item_value_block(item);
	bw_resp__block_pin(block);
	bw_resp__reply_block(call, block);
}

void bw_resp__reply_range(
	struct bw_resp__call *call, struct bw_resp__item *item, uint32_t offset, uint32_t len)
{
	struct bw_resp__block *block = bw_resp__item_value_block(item);
	uint8_t text[BW_RESP__REF_MIN], *to = text;

	if (len >= BW_RESP__REF_MIN) {
		bw_resp__block_pin(block);
		reply_header(call, len);
		reply_by_reference(call, block, true, offset, len);
		return;
	}
	if (!bw_resp__item_has_blob(item)) {
		reply_short_bulk(call, bw_resp__item_value(item) + offset, len);
		return;
	}
	for (const struct bw_resp__chunk *c = bw_resp__item_blob(item); to < text + len; c = c->next) {
		uint32_t n = offset < c->len ? BW_MIN(c->len - offset, len - (uint32_t)(to - text)) : 0;

		to = mempcpy(to, c->bytes + BW_MIN(offset, c->len), n);
		offset -= BW_MIN(offset, c->len);
	}
	reply_short_bulk(call, text, len);
}

void bw_resp__reply_help(struct bw_resp__call *call, const char *const *lines)
{
	char *begin = (char *)call->r->scratch + call->r->limits.inline_bytes_max, *to = begin;
	const char *name = call->command->name;
	unsigned count = 0, name_len = (unsigned)(strchrnul(name, '|') - name);

	while (lines[count] != NULL)
		count++;
	/* The texts are short, and the scratch is not. */
	to += sprintf(to, "*%u\r\n+", count + 3);
	for (unsigned i = 0; i < name_len; i++)
		*to++ = (char)(name[i] & ~0x20);
	to += sprintf(to, " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n");
	for (unsigned i = 0; i < count; i++)
		to += sprintf(to, "+%s\r\n", lines[i]);
	to += sprintf(to, "+HELP\r\n+    Prints this help.\r\n");
	bw_resp__reply_framed(call, begin, (uint32_t)(to - begin));
}

void bw_resp__reply_unknown_subcommand(struct bw_resp__call *call)
{
	char upper[16];
	unsigned i;

	for (i = 0; call->command->name[i] != '\0' && i < sizeof(upper) - 1; i++)
		upper[i] = (char)(call->command->name[i] & ~0x20);
	upper[i] = '\0';
	bw_resp__reply_error(call, "ERR unknown subcommand '%.*s'. Try %s HELP.",
		(int)BW_MIN(call->argv[1].len, 128u), (const char *)call->argv[1].data, upper);
}

/* ---- sending what is too long for the window, or was not ready in time ---- */

/* The piece that comes next. 0: all is sent. */
static uint32_t emit_piece(struct bw_resp__conn *conn, const uint8_t **data)
{
	if (conn->emit_left == 0)
		return 0;
	if (conn->emit->kind == BW_RESP__ITEM) {
		*data = bw_resp__item_value((struct bw_resp__item *)conn->emit) + conn->emit_off;
		return conn->emit_left;
	}
	while (conn->emit_off == conn->emit_chunk->len) {
		conn->emit_chunk = conn->emit_chunk->next;
		conn->emit_off = 0;
	}
	*data = conn->emit_chunk->bytes + conn->emit_off;
	return BW_MIN((uint32_t)conn->emit_left, conn->emit_chunk->len - conn->emit_off);
}

/* False: there is more than fits. */
static bool emit_continue(struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__block *block = conn->emit;
	const uint8_t *data;
	uint32_t len;
	char *end;

	while ((len = emit_piece(conn, &data)) > 0) {
		/* Where there is no room, a byte is refused, which asks for writable(). */
		uint32_t space = bw_stream_space(s), n = space == 0 ? 1 : BW_MIN(len, space);

		bw_resp__block_pin(block);
		if (bw_stream_send_ref(s, data, n, bw_resp__block_unpin, block) != 0) {
			bw_resp__block_unpin(block);
			return refused(s, n);
		}
		conn->emit_off = (uint16_t)(conn->emit_off + n);
		conn->emit_left = (conn->emit_left - n) & 0x7fffffff;
	}
	if (conn->emit_is_bulk) {
		end = bw_stream_reserve(s, 2);
		if (end == NULL)
			return refused(s, 2);
		memcpy(end, "\r\n", 2);
		bw_stream_commit(s, 2);
	}
	conn->emit = NULL;
	conn->emit_chunk = NULL;
	conn->emit_off = 0;
	bw_resp__block_unpin(block);
	return true;
}

/* MGET: one value after the other. True: all are out, or conn.emit has one to finish first. */
static bool list_continue(struct bw_stream *s, struct bw_resp__conn *conn, struct bw_resp__request *request)
{
	while (request->list_left > 0) {
		struct bw_resp__cursor next = request->cursor;
		struct bw_resp__rec *rec = bw_resp__gather_next(&next);
		struct bw_resp__block *found = rec->found;
		uint32_t len = found != NULL ? bw_resp__block_value_bytes(found) : 0;
		bool is_short = len < BW_RESP__REF_MIN;
		uint32_t room = is_short ? BW_RESP__TEXT_MAX : 16;
		char *begin = bw_stream_reserve(s, room), *to;

		if (begin == NULL)
			return refused(s, room);
		if (found == NULL) {
			to = bw_resp__put_nil(begin, request->is_resp3);
		} else {
			to = put_header(begin, len);
			if (is_short) {
				to = mempcpy(to, bw_resp__item_value((struct bw_resp__item *)found), len);
				to = mempcpy(to, "\r\n", 2);
			}
		}
		bw_stream_commit(s, (uint32_t)(to - begin));
		request->cursor = next;
		request->list_left--;
		rec->found = NULL;
		if (found == NULL)
			continue;
		bw_resp__unlist(found);
		if (is_short) {
			bw_resp__block_unpin(found);
			continue;
		}
		emit_begin(conn, found, true, 0, len);
		return true;
	}
	return true;
}

/* Nothing of it is sent. */
static void request_drop(struct bw_resp__request *request)
{
	request->text_sent = request->text_len;
	request->list_left = 0; /* what its values are in frees them */
	if (request->value != NULL)
		bw_resp__block_unpin(request->value);
	request->value = NULL;
	for (struct bw_resp__request *part = request->parts; part != NULL; part = part->next) {
		if (part->value != NULL)
			bw_resp__block_unpin(part->value);
		part->value = NULL;
	}
}

/* One step of the first request's reply. False: no room. */
static bool request_emit(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__request *request = conn->first;

	if (bw_unlikely(request->is_silent))
		request_drop(request);
	while (request->text_sent < request->text_len) {
		uint32_t n = bw_stream_send(
			s, request->text + request->text_sent, request->text_len - request->text_sent);

		if (n == 0)
			return refused(s, 1);
		request->text_sent += n;
	}
	if (request->value != NULL) {
		emit_begin(
			conn, request->value, request->value_is_bulk, request->value_off, request->value_len);
		request->value = NULL;
		return true;
	}
	if (request->list_left > 0)
		return list_continue(s, conn, request);
	for (struct bw_resp__request *part = request->parts; part != NULL; part = request->parts) {
		struct bw_resp__block *value = part->value;

		request->parts = part->next;
		part->value = NULL;
		bw_resp__request_free(r, part);
		if (value == NULL)
			continue;
		emit_begin(conn, value, request->parts == NULL, 0, bw_resp__block_value_bytes(value));
		return true;
	}
	conn->first = request->next;
	if (conn->first == NULL)
		conn->last = NULL;
	conn->waiting_count--;
	bw_resp__request_free(r, request);
	return true;
}

/* Send what is ready. False: the send queue has no room for it. */
static bool pump(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	if (bw_likely(conn->emit == NULL && conn->first == NULL))
		return true;
	window_commit(r);
	for (;;) {
		if (conn->emit != NULL) {
			if (!emit_continue(s, conn))
				return false;
		} else if (conn->first == NULL || !conn->first->is_done) {
			return true;
		} else if (!request_emit(r, s, conn)) {
			return false;
		}
	}
}

/* ---- execution ---- */

/*
 * Can a command run now and its reply be kept? One that needs a request and would be the connection's first may still
 * find none, see run(). If not, something is under way that will wake us.
 */
static bool is_ready(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	if (bw_unlikely(conn->emit != NULL))
		return false;
	if (bw_likely(conn->first == NULL))
		return window_open(r, s);
	if (conn->flags & BW_RESP__BARRIER)
		return false;
	if (!bw_resp__has_requests(r)) {
		retry_soon(s);
		return false;
	}
	return conn->waiting_count < BW_MIN(WAITING_MAX, r->requests_free_count / WAITING_PART);
}

static void reply_unknown_command(struct bw_resp__call *call)
{
	const struct bw_resp__arg *name = &call->argv[0];
	char args[160];
	size_t len = 0;

	args[0] = '\0';
	for (uint32_t i = 1; i < call->argc && len < 128; i++)
		len += (size_t)snprintf(args + len, sizeof(args) - len, "'%.*s' ",
			(int)BW_MIN(call->argv[i].len, 128 - (uint32_t)len),
			(const char *)call->argv[i].data);
	bw_resp__reply_error(call, "ERR unknown command '%.*s', with args beginning with: %s",
		(int)BW_MIN(name->len, 128u), (const char *)name->data, args);
}

/* A browser that was made to send us a request (cross-protocol scripting): what its body says must not be run. */
static bool is_http(const struct bw_resp__arg *name)
{
	return bw_resp__arg_is(name, "post") || bw_resp__arg_is(name, "host:");
}

static bool check_arity(struct bw_resp__call *call)
{
	const struct bw_resp__command *command = call->command;
	bool ok = command->arity > 0 ? call->argc == (uint32_t)command->arity
				     : call->argc >= (uint32_t)-command->arity;

	if (ok && (command->spread == BW_RESP__MSET || command->spread == BW_RESP__MSETNX))
		ok = call->argc % 2 == 1;
	if (!ok) {
		bw_resp__reply_arity(call, command->name);
		return false;
	}
	if (command->spread == BW_RESP__FLUSH &&
		(call->argc > 2 || (call->argc == 2 && !bw_resp__arg_is(&call->argv[1], "async") &&
					   !bw_resp__arg_is(&call->argv[1], "sync")))) {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	return true;
}

/* Whose keys they are: a bit a worker. 0 after an error reply. */
static uint64_t find_owners(struct bw_resp__call *call)
{
	struct bw_resp *r = call->r;
	int step = call->command->key_step;
	uint32_t last = call->command->last_key < 0 ? call->argc - 1 : (uint32_t)call->command->last_key;
	uint64_t owners = 0;

	for (uint32_t i = (uint32_t)call->command->first_key; i <= last; i += (uint32_t)step) {
		if (bw_unlikely(call->argv[i].len > BW_RESP__KEY_MAX)) {
			bw_resp__reply_error(call, "ERR key is longer than %u bytes", BW_RESP__KEY_MAX);
			return 0;
		}
		/* One worker: nothing to find, and each key is hashed once, where it is used. */
		if (call->command->last_key != call->command->first_key && r->workers == 1)
			continue;
		struct bw_resp__keyhash key = bw_resp__hash_key(r, call->argv[i].data, call->argv[i].len);

		call->hash = key.hash;
		owners |= 1ull << key.owner;
	}
	return owners | (uint64_t)(r->workers == 1);
}

/* The arguments, to be kept: those that were gathered as they are, others copied. NULL: no memory. */
struct bw_resp__gather *bw_resp__keep_args(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	struct bw_resp__gather *gather = *gathered;

	if (gather != NULL && !gather->is_inline) {
		*gathered = NULL;
		return gather;
	}
	gather = bw_resp__gather_new(&call->r->store);
	for (uint32_t i = 0; gather != NULL && i < call->argc; i++) {
		if (bw_resp__gather_add(&call->r->store, gather, &call->argv[i]))
			continue;
		bw_resp__gather_free(&call->r->store, gather);
		gather = NULL;
	}
	return gather;
}

void bw_resp__post(struct bw_resp *r, uint32_t worker, struct bw_resp__request *request)
{
	r->mails++;
	request->is_answered = false;
	bw_mail_post(r->ctx, worker, &request->mail);
}

/* To the owner of its keys. That is this worker where they have to be waited for. */
static void send_away(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered)
{
	struct bw_resp__request *request =
		call->request != NULL ? call->request : bw_resp__request_push(call);

	call->request = request;
	request->gather = bw_resp__keep_args(call, gathered);
	if (request->gather == NULL) {
		bw_resp__reply_oom(call);
		request->is_done = true;
		return;
	}
	if (owners == 1ull << call->r->worker)
		bw_resp__defer(call->r, request);
	else
		bw_resp__post(call->r, (uint32_t)__builtin_ctzll(owners), request);
}

/* All parts are in: the reply of a spread command. */
static void finish_spread(struct bw_resp__request *request)
{
	struct bw_resp__call call = { .r = request->home, .request = request, .is_resp3 = request->is_resp3 };

	request->is_done = true;
	if (request->is_over_memory) {
		parts_free(request);
		bw_resp__reply_oom(&call);
		return;
	}
	switch (request->command->spread) {
	case BW_RESP__MGET:
		request->list_left = request->gather->argc - 1;
		bw_resp__gather_first(request->gather, &request->cursor);
		request->text_len = (uint32_t)snprintf(
			request->text, sizeof(request->text), "*%u\r\n", request->list_left);
		break;
	case BW_RESP__MSET:
	case BW_RESP__FLUSH:
	case BW_RESP__TELL:
		bw_resp__reply_ok(&call);
		break;
	case BW_RESP__TOUR:
		bw_resp__finish_tour(&call);
		break;
	default:
		bw_resp__reply_int(&call, request->sum);
		break;
	}
}

/* To all workers that own some of the keys, this one among them or not. */
static void spread(struct bw_resp__call *call, uint64_t owners, struct bw_resp__gather **gathered)
{
	struct bw_resp *r = call->r;
	struct bw_resp__request *whole = call->request != NULL ? call->request : bw_resp__request_push(call);

	bool tours = call->command->spread == BW_RESP__TOUR;

	call->request = whole;
	if ((call->command->first_key != 0 || call->command->spread >= BW_RESP__TELL) &&
		(whole->gather = bw_resp__keep_args(call, gathered)) == NULL) {
		whole->is_over_memory = true;
		finish_spread(whole);
		return;
	}
	for (uint32_t worker = 0; worker < r->workers; worker++) {
		struct bw_resp__request *part;

		if ((owners >> worker & 1) == 0 || (worker == r->worker && !tours))
			continue;
		part = bw_resp__request_alloc(r, call->command);
		part->parent = whole;
		part->caller = bw_resp__client_id(r, call->conn);
		whole->waiting++;
		bw_resp__post(r, worker, part);
	}
	/* The others only look while the mail is theirs, and take nothing: this part may take what it owns. */
	if ((owners >> r->worker & 1) != 0 && call->command->spread == BW_RESP__TELL) {
		bw_resp__tell(r, whole);
	} else if ((owners >> r->worker & 1) != 0 && !tours) {
		if (bw_unlikely(r->holds != 0) && bw_resp__must_wait(call)) {
			struct bw_resp__request *part = bw_resp__request_alloc(r, call->command);

			part->parent = whole;
			whole->waiting++;
			bw_resp__defer(r, part);
		} else {
			bw_resp__run_spread_part(r, whole, true, whole);
		}
	}
	if (whole->waiting == 0)
		finish_spread(whole);
}

static enum bw_resp__ran run(struct bw_resp__call *call, struct bw_resp__gather **gathered)
{
	const struct bw_resp__command *command = call->command;
	uint64_t mine = 1ull << call->r->worker, owners = mine;

	if (bw_unlikely(command == NULL)) {
		reply_unknown_command(call);
		return BW_RESP__RAN_HERE;
	}
	if (bw_unlikely(!check_arity(call)))
		return BW_RESP__RAN_HERE;
	if (bw_unlikely((call->conn->flags & BW_RESP__UNAUTHENTICATED) != 0) &&
		!bw_resp__is_allowed_before_auth(command)) {
		bw_resp__reply_error(call, "NOAUTH Authentication required.");
		return BW_RESP__RAN_HERE;
	}
	if (command->first_key != 0) {
		owners = find_owners(call);
		if (bw_unlikely(owners == 0))
			return BW_RESP__RAN_HERE;
	} else if (command->spread == BW_RESP__CONTAINER && (call->argc > 1 || command->run == NULL)) {
		command = bw_resp__find_subcommand(call);
		if (command == NULL) {
			bw_resp__reply_unknown_subcommand(call);
			return BW_RESP__RAN_HERE;
		}
		call->command = command;
		call->conn->last_command = bw_resp__command_number(command);
		if (call->request != NULL) /* was pushed as the container's */
			call->request->command = command;
		return run(call, gathered);
	} else if (command->spread == BW_RESP__KEYS || command->spread == BW_RESP__RANDOMKEY) {
		return bw_resp__walk_begin(call, gathered);
	} else if (command->spread == BW_RESP__SCAN) {
		int worker = bw_resp__scan_worker(call);

		if (worker < 0)
			return BW_RESP__RAN_HERE;
		owners = 1ull << worker;
	} else if (command->spread != BW_RESP__ONE && command->spread != BW_RESP__CONTAINER) {
		if (command->spread >= BW_RESP__TELL && !bw_resp__check_told(call))
			return BW_RESP__RAN_HERE;
		owners = UINT64_MAX >> (64 - call->r->workers);
	}
	if (bw_likely(command->run != NULL)) {
		bool waits = bw_unlikely(call->r->holds != 0) && owners == mine && bw_resp__must_wait(call);

		if (bw_likely(owners == mine && !waits)) {
			command->run(call);
			return BW_RESP__RAN_HERE;
		}
		if (call->request == NULL && !bw_resp__has_requests(call->r))
			return BW_RESP__RAN_NOT;
		if (bw_unlikely((owners & (owners - 1)) != 0))
			bw_resp__atomic_begin(call, owners, gathered);
		else
			send_away(call, owners, gathered);
		return BW_RESP__RAN_AWAY;
	}
	if (owners == mine && command->spread < BW_RESP__TELL &&
		(bw_likely(call->r->holds == 0) || !bw_resp__must_wait(call)) &&
		bw_resp__run_spread_here(call))
		return BW_RESP__RAN_HERE;
	if (call->request == NULL && !bw_resp__has_requests(call->r))
		return BW_RESP__RAN_NOT;
	spread(call, owners, gathered);
	return BW_RESP__RAN_AWAY;
}

/*
 * CLIENT REPLY OFF and SKIP: drop the reply that was just made. Their own is dropped too, that of ON is not.
 * @was_silent  before the command
 * @out         where the window stood
 */
static void silence(struct bw_resp__call *call, bool was_silent, char *out)
{
	struct bw_resp__conn *conn = call->conn;
	bool is_on =
		(conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP | BW_RESP__REPLY_SKIP_NEXT)) == 0;

	conn->flags &= (uint16_t)~BW_RESP__REPLY_SKIP_NEXT;
	if (conn->flags & BW_RESP__REPLY_SKIP) {
		conn->flags &= (uint16_t)~BW_RESP__REPLY_SKIP;
		conn->flags |= BW_RESP__REPLY_SKIP_NEXT;
	}
	if (was_silent && is_on)
		return;
	if (call->request != NULL) {
		call->request->is_silent = true;
		return;
	}
	call->r->out = out;
	if (conn->emit != NULL) {
		bw_resp__block_unpin(conn->emit);
		conn->emit = NULL;
		conn->emit_chunk = NULL;
	}
}

/*
 * The command in r->argv. `*gathered`: where its arguments are, if anywhere; NULL afterwards if they are kept. False:
 * not now, and the timer is armed.
 */
static bool execute(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t argc,
	struct bw_resp__gather **gathered)
{
	const struct bw_resp__command *command = bw_resp__find_command(r, r->argv[0].data, r->argv[0].len);
	struct bw_resp__call call = {
		.r = r,
		.stream = s,
		.conn = conn,
		.command = command,
		.argv = r->argv,
		.argc = argc,
		.may_take = true,
		.is_resp3 = (conn->flags & BW_RESP__RESP3) != 0,
	};
	char *out = r->out;
	bool is_silent = false;

	r->commands++;
	conn->last_command = bw_resp__command_number(command);
	if (bw_unlikely(command == NULL && is_http(&r->argv[0]))) {
		conn->flags |= BW_RESP__CLOSING | BW_RESP__ABORTED;
		bw_stream_abort(s);
		return true;
	}
	/* What comes behind a request is answered into one too. */
	if (bw_unlikely(conn->first != NULL))
		call.request = bw_resp__request_push(&call);
	if (bw_unlikely((conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP_NEXT)) != 0))
		is_silent = true;
	switch (run(&call, gathered)) {
	case BW_RESP__RAN_HERE:
		if (bw_unlikely(call.request != NULL))
			call.request->is_done = true;
		break;
	case BW_RESP__RAN_AWAY:
		break;
	case BW_RESP__RAN_NOT:
		r->commands--;
		retry_soon(s);
		return false;
	}
	if (bw_unlikely(is_silent || (conn->flags & (BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP)) != 0))
		silence(&call, is_silent, out);
	return true;
}

static void protocol_error(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, const char *text)
{
	struct bw_resp__call call = { .r = r, .stream = s, .conn = conn };

	r->protocol_errors++;
	if (conn->first != NULL)
		call.request = bw_resp__request_push(&call);
	bw_resp__reply_error(&call, "ERR %s", text);
	if (call.request != NULL)
		call.request->is_done = true;
	conn->flags |= BW_RESP__CLOSING;
}

/* A gathered command is complete. False: not now. */
static bool run_gathered(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	struct bw_resp__gather *gather = conn->gather;
	int argc = 0;

	if (!is_ready(r, s, conn))
		return false;
	conn->gather = NULL;
	if (gather->error != NULL) {
		protocol_error(r, s, conn, gather->error);
	} else if (gather->is_over_memory) {
		struct bw_resp__call call = { .r = r, .stream = s, .conn = conn };

		if (conn->first != NULL)
			call.request = bw_resp__request_push(&call);
		bw_resp__reply_oom(&call);
		if (call.request != NULL)
			call.request->is_done = true;
	} else if (gather->is_inline) {
		if (gather->text != NULL) {
			bw_resp__blob_copy(gather->text, r->scratch, gather->line_len);
			argc = bw_resp__split_inline(
				r->scratch, gather->line_len, r->argv, r->limits.args_max);
		}
		if (argc < 0)
			protocol_error(r, s, conn,
				argc == -1 ? "Protocol error: unbalanced quotes in request"
					   : "Protocol error: invalid multibulk length");
	} else {
		argc = (int)bw_resp__gather_args(gather, r->argv);
	}
	if (argc > 0 && !execute(r, s, conn, (uint32_t)argc, &gather)) {
		conn->gather = gather;
		return false;
	}
	if (gather != NULL)
		bw_resp__gather_free(&r->store, gather);
	return true;
}

/* Close, if it is time. @unread  bytes that are there and not consumed */
static void close_if_done(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t unread)
{
	bool is_done;

	if (bw_likely((conn->flags & (BW_RESP__CLOSING | BW_RESP__PEER_DONE)) == 0 &&
		      !bw_stream_is_draining(s)))
		return;
	if (conn->emit != NULL || conn->first != NULL || (conn->flags & BW_RESP__ABORTED) != 0)
		return;
	if (conn->flags & BW_RESP__CLOSING)
		is_done = true;
	else if (conn->flags & BW_RESP__PEER_DONE) /* half a command will never be a whole one */
		is_done = unread == 0 && (conn->gather == NULL || is_arriving(conn->gather));
	else
		is_done = unread == 0 && conn->gather == NULL;
	if (!is_done)
		return;
	window_commit(r);
	conn->flags |= BW_RESP__CLOSING;
	bw_stream_close(s);
}

static bool gather_begin(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	conn->gather = bw_resp__gather_new(&r->store);
	if (conn->gather == NULL) {
		retry_soon(s);
		return false;
	}
	conn->gather->progress_at = bw_stream_now(s);
	return true;
}

/* More of a command has come: that earns it time, but no credit for later. */
static void gather_note(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, uint32_t len)
{
	bw_ns earned = len * (BW_NS_PER_SEC / STALL_RATE);

	conn->gather->progress_at = BW_MIN(conn->gather->progress_at + earned, bw_stream_now(s));
	bw_stream_set_timer(s, deadline_of(r, conn));
}

static const struct bw_resp__limits *limits_of(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	return bw_likely((conn->flags & BW_RESP__UNAUTHENTICATED) == 0) ? &r->limits
									: &r->unauthenticated_limits;
}

/* One view's bytes. Returns how many were used: all, unless the connection has to wait or closes. */
static uint32_t take_view(
	struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn, const struct bw_view *view)
{
	const uint8_t *p = view->data, *end = p + view->len;
	struct bw_resp__gather *none = NULL;
	uint32_t len, argc;

	while (p < end && (conn->flags & BW_RESP__CLOSING) == 0) {
		if (bw_likely(conn->gather == NULL) &&
			bw_likely((len = bw_resp__parse_in_place(
					   p, end, limits_of(r, conn), r->argv, &argc)) > 0)) {
			if (!is_ready(r, s, conn) || bw_unlikely(!execute(r, s, conn, argc, &none)))
				break;
			p += len;
		} else {
			if (conn->gather == NULL && !gather_begin(r, s, conn))
				break;
			len = bw_resp__gather_feed(
				&r->store, conn->gather, limits_of(r, conn), p, (uint32_t)(end - p));
			p += len;
			if (is_arriving(conn->gather))
				gather_note(r, s, conn, len);
			else if (!run_gathered(r, s, conn))
				break;
		}
		if (bw_unlikely(!pump(r, s, conn)))
			break;
	}
	return (uint32_t)(p - view->data);
}

static uint32_t resp_data(struct bw_stream *s, const struct bw_view *views, unsigned count)
{
	struct bw_resp *r = resp_of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);
	uint32_t used = 0, sum = 0;
	bool can_go_on;

	set_now(r, bw_stream_now(s));
	conn->used_s = (uint32_t)(bw_stream_now(s) / BW_NS_PER_SEC);
	can_go_on = pump(r, s, conn);
	if (can_go_on && conn->gather != NULL && conn->gather->state == BW_RESP__GATHER_COMPLETE)
		can_go_on = run_gathered(r, s, conn) && pump(r, s, conn);
	for (unsigned i = 0; i < count; i++) {
		uint32_t n = can_go_on ? take_view(r, s, conn, &views[i]) : 0;

		used += n;
		sum += views[i].len;
		if (n < views[i].len)
			can_go_on = false;
	}
	window_commit(r);
	if (conn->flags & BW_RESP__CLOSING)
		used = sum;
	close_if_done(r, s, conn, bw_stream_unread(s) - used);
	return used;
}

/* Something that the connection waited for has come. */
static void resume(struct bw_resp *r, struct bw_stream *s)
{
	struct bw_resp__conn *conn = bw_stream_state(s);
	bool can_go_on = pump(r, s, conn);

	if (can_go_on && conn->gather != NULL && conn->gather->state == BW_RESP__GATHER_COMPLETE)
		can_go_on = run_gathered(r, s, conn) && pump(r, s, conn);
	window_commit(r);
	if (can_go_on && bw_stream_unread(s) > 0)
		bw_stream_wake(s);
	else
		close_if_done(r, s, conn, bw_stream_unread(s));
}

static void resp_writable(struct bw_stream *s)
{
	struct bw_resp *r = resp_of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	conn->stuck_at = 0; /* a quarter of the send queue is free again: it reads */
	set_now(r, bw_stream_now(s));
	resume(r, s);
}

static void resp_timer(struct bw_stream *s)
{
	struct bw_resp *r = resp_of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);
	bw_ns deadline = deadline_of(r, conn);

	if (bw_stream_now(s) >= deadline) {
		r->stalled++;
		conn->flags |= BW_RESP__CLOSING | BW_RESP__ABORTED;
		bw_stream_abort(s);
		return;
	}
	bw_stream_set_timer(s, deadline);
	set_now(r, bw_stream_now(s));
	resume(r, s);
}

/* ---- mail ---- */

/* A request at a worker that it was posted to. */
static void run_request(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__call call = {
		.r = r,
		.command = request->command,
		.argv = r->argv,
		.request = request,
		.may_take = request->home == r,
		.is_resp3 = request->is_resp3,
	};
	const struct bw_resp__arg *key;

	if (request->step != BW_RESP__NO_STEP) {
		bw_resp__atomic_visit(r, request);
		return;
	}
	if (request->parent != NULL) {
		bw_resp__run_spread_part(r, request->parent, request->home == r, request);
		return;
	}
	if (request->command->run == NULL) {
		bw_resp__walk_visit(r, request);
		return;
	}
	call.argc = bw_resp__gather_args(request->gather, r->argv);
	key = &call.argv[call.command->first_key];
	call.hash = bw_resp__hash_key(r, key->data, key->len).hash;
	call.command->run(&call);
}

void bw_resp__request_done(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__conn *conn;

	request->is_done = true;
	if (request->stream == NULL) {
		bw_resp__request_free(r, request);
		return;
	}
	conn = bw_stream_state(request->stream);
	/* Where it is set, nothing came behind this one. */
	if (conn->last == request)
		conn->flags &= (uint16_t)~BW_RESP__BARRIER;
	if (conn->first == request)
		resume(r, request->stream);
}

/* Home again. */
static void request_came_home(struct bw_resp *r, struct bw_resp__request *request)
{
	struct bw_resp__request *whole = request->parent;

	if (request->step != BW_RESP__NO_STEP) {
		bw_resp__atomic_came_home(r, request);
		return;
	}
	if (whole != NULL) {
		whole->sum += request->sum;
		whole->is_over_memory |= request->is_over_memory;
		if (request->value != NULL) {
			request->next = whole->parts;
			whole->parts = request;
		} else {
			bw_resp__request_free(r, request);
		}
		if (--whole->waiting > 0)
			return;
		finish_spread(whole);
		request = whole;
	} else if (request->command->run == NULL && bw_resp__walk_goes_on(r, request)) {
		return;
	}
	bw_resp__request_done(r, request);
}

void bw_resp__carry_out(struct bw_resp *r, struct bw_resp__request *request)
{
	run_request(r, request);
	request->is_answered = true;
	if (request->home == r)
		request_came_home(r, request);
	else
		bw_mail_post(r->ctx, request->home->worker, &request->mail);
}

/* What no key has to do with: it does not wait for those that are held. */
static void told(struct bw_resp *r, struct bw_resp__request *part)
{
	if (part->command->spread == BW_RESP__TELL)
		bw_resp__tell(r, part->parent);
	else
		bw_resp__tour(r, part);
	/* A slice of this worker's connections, and the next one in a later turn. */
	part->is_answered = part->command->spread == BW_RESP__TELL || part->tour == BW_RESP__TOUR_DONE;
	bw_mail_post(r->ctx, part->is_answered ? part->home->worker : r->worker, &part->mail);
}

static void resp_mail(struct bw_context *ctx, struct bw_mail *mail)
{
	struct bw_resp__request *request = bw_container_of(mail, struct bw_resp__request, mail);
	struct bw_resp *r = resp_of(ctx);

	set_now(r, bw_context_now(ctx));
	if (request->command->spread >= BW_RESP__TELL && request->parent != NULL && !request->is_answered) {
		told(r, request);
		return;
	}
	if (request->is_answered)
		request_came_home(r, request);
	else if (bw_resp__admit(r, request))
		bw_resp__carry_out(r, request);
}

/* ---- a connection's life ---- */

/* Redis's protected mode, where "outside" is what a host on the Internet is: docs/resp.md. */
static bool is_denied(const struct bw_resp *r, const struct bw_stream *s)
{
	const struct bw_flow *flow = bw_stream_flow(s);

	return r->conf->protected_mode && r->conf->password_len == 0 && bw_ip_is_global(&flow->local) &&
	       bw_ip_is_global(&flow->remote);
}

static void deny(struct bw_resp *r, struct bw_stream *s)
{
	static const char text[] =
		"-DENIED Barewire is running in protected mode: its address is a public one, there is no password, and "
		"you are not in a private network. To connect from here, do one of these in its configuration and "
		"restart it: 1) Name a file with a password as resp[].password_file. 2) Give resp[].addresses "
		"that are not public, and connect to those. 3) Set resp[].protected_mode to false, if nobody reaches "
		"this port who should not.\r\n";

	r->denied++;
	((struct bw_resp__conn *)bw_stream_state(s))->flags |= BW_RESP__CLOSING;
	bw_stream_send(s, text, sizeof(text) - 1);
	bw_stream_close(s);
}

static void resp_opened(struct bw_stream *s)
{
	struct bw_resp *r = resp_of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	r->connections++;
	r->connections_total++;
	conn->serial = ++r->serial;
	conn->last_command = BW_RESP__NO_COMMAND;
	conn->opened_s = conn->used_s = (uint32_t)(bw_stream_now(s) / BW_NS_PER_SEC);
	conn->list_prev = r->streams_last;
	if (r->streams_last != NULL)
		((struct bw_resp__conn *)bw_stream_state(r->streams_last))->list_next = s;
	else
		r->streams_first = s;
	r->streams_last = s;
	if (r->conf->password_len > 0)
		conn->flags |= BW_RESP__UNAUTHENTICATED;
	if (bw_unlikely(is_denied(r, s)))
		deny(r, s);
}

static void list_remove(struct bw_resp *r, struct bw_stream *s, struct bw_resp__conn *conn)
{
	bw_resp__tours_skip(r, s);
	if (conn->list_prev != NULL)
		((struct bw_resp__conn *)bw_stream_state(conn->list_prev))->list_next = conn->list_next;
	else
		r->streams_first = conn->list_next;
	if (conn->list_next != NULL)
		((struct bw_resp__conn *)bw_stream_state(conn->list_next))->list_prev = conn->list_prev;
	else
		r->streams_last = conn->list_prev;
}

static void resp_peer_closed(struct bw_stream *s)
{
	struct bw_resp__conn *conn = bw_stream_state(s);

	conn->flags |= BW_RESP__PEER_DONE;
	close_if_done(resp_of(bw_stream_context(s)), s, conn, bw_stream_unread(s));
}

static void resp_drain(struct bw_stream *s)
{
	close_if_done(resp_of(bw_stream_context(s)), s, bw_stream_state(s), bw_stream_unread(s));
}

static void resp_closed(struct bw_stream *s, enum bw_close_reason reason)
{
	struct bw_resp *r = resp_of(bw_stream_context(s));
	struct bw_resp__conn *conn = bw_stream_state(s);

	while (conn->first != NULL) {
		struct bw_resp__request *request = conn->first;

		conn->first = request->next;
		if (request->is_done)
			bw_resp__request_free(r, request);
		else
			request->stream = NULL; /* freed when it comes home */
	}
	if (conn->emit != NULL)
		bw_resp__block_unpin(conn->emit);
	if (conn->gather != NULL)
		bw_resp__gather_free(&r->store, conn->gather);
	bw_resp__client_free(r, conn);
	list_remove(r, s, conn);
	r->connections--;
}

/* ---- a worker's life ---- */

static size_t round_up(size_t bytes)
{
	return (bytes + BW_RESP__PAGE_BYTES - 1) & ~(size_t)(BW_RESP__PAGE_BYTES - 1);
}

static int resp_start(struct bw_context *ctx, void *conf_arg)
{
	struct bw_resp_conf *conf = conf_arg;
	struct bw_resp *r = resp_of(ctx);
	unsigned workers = bw_context_worker_count(ctx);
	uint64_t share = conf->memory_bytes_max / workers / BW_RESP__PAGE_BYTES * BW_RESP__PAGE_BYTES;
	uint64_t least = bw_resp_memory_bytes_least(conf, workers), most = bw_resp_memory_bytes_most(workers);
	size_t index_bytes, argv_bytes, scratch_bytes, requests_bytes, bytes;
	uint8_t *base;

	if (conf->memory_bytes_max < least || conf->memory_bytes_max > most) {
		bw_error("resp: %llu bytes of memory for %u workers; give %llu to %llu",
			(unsigned long long)conf->memory_bytes_max, workers, (unsigned long long)least,
			(unsigned long long)most);
		return -EINVAL;
	}
	if (conf->shared == NULL || workers > WORKERS_MAX) {
		bw_error("resp: %u workers, prepared for %u: call bw_resp_conf_prepare() first", workers,
			conf->shared == NULL ? 0 : WORKERS_MAX);
		return -EINVAL;
	}
	r->ctx = ctx;
	r->conf = conf;
	r->worker = bw_context_worker(ctx);
	r->workers = workers;
	r->hash_seed = conf->hash_seed;
	r->maxmemory = conf->memory_bytes_max;
	r->limits = (struct bw_resp__limits){
		.bulk_bytes_max = conf->bulk_bytes_max,
		.args_max = conf->args_max,
		.inline_bytes_max = conf->inline_bytes_max,
	};
	r->unauthenticated_limits = (struct bw_resp__limits){
		.bulk_bytes_max = BW_MIN(conf->bulk_bytes_max, BW_RESP__UNAUTHENTICATED_BULK),
		.args_max = BW_RESP__UNAUTHENTICATED_ARGS,
		.inline_bytes_max = conf->inline_bytes_max,
		.is_unauthenticated = true,
	};

	index_bytes = round_up(bw_resp__store_index_bytes(share));
	argv_bytes = round_up(sizeof(*r->argv) * conf->args_max);
	scratch_bytes = round_up((size_t)conf->inline_bytes_max + BW_RESP__SCRATCH_BYTES);
	requests_bytes = round_up(sizeof(struct bw_resp__request) * REQUESTS_MAX);
	/* Address space; memory as it is touched. One more page, to align. */
	bytes = share + index_bytes + argv_bytes + scratch_bytes + requests_bytes + BW_RESP__PAGE_BYTES;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		int error = errno;

		bw_error("resp: cannot reserve %zu bytes for worker %u: %s; give it less memory", bytes,
			r->worker, strerror(error));
		return -error;
	}
	if (conf->shared->maps[r->worker].base != NULL) /* an earlier run with the same configuration */
		munmap(conf->shared->maps[r->worker].base, conf->shared->maps[r->worker].bytes);
	conf->shared->maps[r->worker].base = base;
	conf->shared->maps[r->worker].bytes = bytes;
	base = (uint8_t *)(((uintptr_t)base + BW_RESP__PAGE_BYTES - 1) &
			   ~(uintptr_t)(BW_RESP__PAGE_BYTES - 1));
	/* Fewer TLB misses where the kernel has huge pages to give; a refusal costs nothing else. */
	(void)madvise(base, share + index_bytes, MADV_HUGEPAGE);

	bw_resp__store_init(&r->store, &(struct bw_resp__store_conf){
					       .arena = base,
					       .index = base + share,
					       .bytes_max = share,
					       .random_seed = conf->hash_seed + r->worker,
					       .policy = conf->policy,
				       });
	r->argv = (struct bw_resp__arg *)(base + share + index_bytes);
	r->scratch = base + share + index_bytes + argv_bytes;
	/* Touched as they are used: the lowest first, and what was freed last is used first. */
	for (unsigned i = REQUESTS_MAX; i-- > 0;) {
		struct bw_resp__request *request =
			(struct bw_resp__request *)(base + share + index_bytes + argv_bytes + scratch_bytes) +
			i;

		request->next = r->requests_free;
		r->requests_free = request;
	}
	r->requests_free_count = REQUESTS_MAX;
	bw_resp__index_commands(r);
	r->started_at = bw_context_now(ctx);
	resync(r, r->started_at);
	set_now(r, r->started_at);
	return 0;
}

static void resp_tick(struct bw_context *ctx, bw_ns now)
{
	struct bw_resp *r = resp_of(ctx);

	if (now < r->sweep_at)
		return;
	r->sweep_at = now + SWEEP_NS;
	if (now >= r->resync_at)
		resync(r, now);
	set_now(r, now);
	if (now - r->ops_at >= BW_NS_PER_SEC) {
		r->ops_per_s = (r->commands - r->ops_commands) * BW_NS_PER_SEC / (now - r->ops_at);
		r->ops_commands = r->commands;
		r->ops_at = now;
	}
	/* As long as a slice is worth it: more than one item freed for every two buckets. */
	for (unsigned i = 0; i < SWEEP_ROUNDS; i++)
		if (bw_resp__store_sweep(&r->store, SWEEP_BUCKETS) < SWEEP_BUCKETS / 2)
			break;
}

static size_t resp_stats(const struct bw_context *ctx, char *out, size_t out_bytes)
{
	const struct bw_resp *r = bw_context_peer_state(ctx, bw_context_worker(ctx));
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{ "commands", r->commands },
		{ "errors", r->errors },
		{ "protocol_errors", r->protocol_errors },
		{ "connections", r->connections },
		{ "stalled", r->stalled },
		{ "denied", r->denied },
		{ "hits", r->store.hits },
		{ "misses", r->store.misses },
		{ "keys", r->store.keys },
		{ "expiring", r->store.expiring },
		{ "payload_bytes", r->store.payload_bytes },
		{ "memory_bytes", bw_resp__slab_used_bytes(&r->store.slab) },
		{ "staged_bytes", r->store.staged_bytes },
		{ "evicted", r->store.evicted },
		{ "expired", r->store.expired },
		{ "mails", r->mails },
	};
	size_t len = 0;

	for (size_t i = 0; i < BW_ARRAY_LEN(lines); i++) {
		int n = snprintf(out + len, out_bytes - len, "%s %llu\n", lines[i].name,
			(unsigned long long)lines[i].value);

		if ((size_t)n >= out_bytes - len)
			break;
		len += (size_t)n;
	}
	return len;
}

const struct bw_service bw_resp_service = {
	.name = "resp",
	.stream_bytes = sizeof(struct bw_resp__conn),
	.context_bytes = sizeof(struct bw_resp),
	.start = resp_start,
	.opened = resp_opened,
	.data = resp_data,
	.writable = resp_writable,
	.peer_closed = resp_peer_closed,
	.closed = resp_closed,
	.timer = resp_timer,
	.mail = resp_mail,
	.drain = resp_drain,
	.tick = resp_tick,
	.stats = resp_stats,
};
