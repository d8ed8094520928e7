/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CLIENT: what a connection is called, and LIST and KILL over the connections of all workers.
 *
 * LIST and KILL are a request with a part for each worker, which goes through the connections there by mail to itself,
 * a slice a turn, and comes home with its text or its count. Between two slices it stands at a connection; when that
 * one ends, it moves to the next (bw_resp__tours_skip()). So each connection that is open all the time is met once.
 */
#include "text.h"

#include <stdio.h>

typedef bw_resp__ull ull;

#define SLICE   64u   /* connections looked at in a turn, */
#define IDS     16u   /* each compared with so many ids; with more ids, fewer connections */
#define IDS_MAX 1024u /* of LIST */

/* ---- what a client says of itself ---- */

#define CLIENT_NAME_MAX 256u
#define CLIENT_LIB_MAX  64u

/* One of the texts; *len 0 where it was never said. */
static const char *client_text(const struct bw_resp__conn *conn, unsigned which, uint32_t *len)
{
	const struct bw_resp__client *client;
	uint32_t at = 0;

	*len = 0;
	if (conn->busy->client == NULL)
		return "";
	client = (const struct bw_resp__client *)conn->busy->client->bytes;
	for (unsigned i = 0; i < which; i++)
		at += client->len[i];
	*len = client->len[which];
	return client->texts + at;
}

void bw_resp__client_free(struct bw_resp *r, struct bw_resp__conn *conn)
{
	if (conn->busy->client == NULL)
		return;
	r->clients_bytes -= bw_resp__block_bytes(conn->busy->client);
	bw_resp__chunks_free(&r->store, conn->busy->client);
	bw_resp__busy(r, conn)->client = NULL;
}

/* Replace one of the texts. False after an error reply. */
static bool client_set(struct bw_resp__call *call, unsigned which, const struct bw_resp__arg *arg)
{
	struct bw_resp__chunk *chunk = call->conn->busy->client;
	struct bw_resp *r = call->r;
	_Alignas(struct bw_resp__client) char
		all[sizeof(struct bw_resp__client) + CLIENT_NAME_MAX + 2 * CLIENT_LIB_MAX];
	struct bw_resp__client *client = (struct bw_resp__client *)all;
	char *to = client->texts;
	uint32_t bytes;

	for (unsigned i = 0; i < 3; i++) {
		uint32_t len = arg->len;
		const char *text = i == which ? (const char *)arg->data : client_text(call->conn, i, &len);

		client->len[i] = (uint16_t)len;
		to = mempcpy(to, text, len);
	}
	bytes = (uint32_t)(to - all);
	if (bytes == sizeof(*client)) {
		bw_resp__client_free(r, call->conn);
		return true;
	}
	if (chunk == NULL || chunk->room < bytes) {
		/* They may have an eighth of what is for commands that arrive. */
		chunk = r->clients_bytes < r->store.staged_bytes_max / 8
				? bw_resp__chunk_alloc(&r->store, bytes, true)
				: NULL;
		if (chunk == NULL) {
			bw_resp__reply_oom(call);
			return false;
		}
		bw_resp__client_free(r, call->conn);
		r->clients_bytes += bw_resp__block_bytes(chunk);
		bw_resp__busy(r, call->conn)->client = chunk;
	}
	memcpy(chunk->bytes, all, bytes);
	return true;
}

static bool is_graphic(const struct bw_resp__arg *arg)
{
	for (uint32_t i = 0; i < arg->len; i++)
		if (arg->data[i] < '!' || arg->data[i] > '~')
			return false;
	return true;
}

/* False after an error reply. */
bool bw_resp__set_name(struct bw_resp__call *call, const struct bw_resp__arg *name)
{
	if (name->len > CLIENT_NAME_MAX) {
		bw_resp__reply_error(call, "ERR Client names are at most %u bytes long.", CLIENT_NAME_MAX);
		return false;
	}
	if (!is_graphic(name)) {
		bw_resp__reply_error(
			call, "ERR Client names cannot contain spaces, newlines or special characters.");
		return false;
	}
	return client_set(call, BW_RESP__CLIENT_NAME, name);
}

void bw_resp__run_client_setname(struct bw_resp__call *call)
{
	if (bw_resp__set_name(call, &call->argv[2]))
		bw_resp__reply_ok(call);
}

void bw_resp__run_client_getname(struct bw_resp__call *call)
{
	uint32_t len;
	const char *name = client_text(call->conn, BW_RESP__CLIENT_NAME, &len);

	if (len == 0)
		bw_resp__reply_nil(call);
	else
		bw_resp__reply_bulk(call, name, len);
}

/* Unlike bw_stream_id(), it is not the same on two workers, and small. */
uint64_t bw_resp__client_id(const struct bw_resp *r, const struct bw_resp__conn *conn)
{
	return (uint64_t)conn->serial * r->workers + r->worker;
}

void bw_resp__run_client_id(struct bw_resp__call *call)
{
	bw_resp__reply_int(call, (int64_t)bw_resp__client_id(call->r, call->conn));
}

/* Of Redis 7.2, which clients say at their start and do not mind to be refused. */
void bw_resp__run_client_setinfo(struct bw_resp__call *call)
{
	const struct bw_resp__arg *value = &call->argv[3];
	bool is_name = bw_resp__arg_is(&call->argv[2], "lib-name");

	if (!is_name && !bw_resp__arg_is(&call->argv[2], "lib-ver")) {
		bw_resp__reply_error(call, "ERR Unrecognized option '%.*s'",
			(int)BW_MIN(call->argv[2].len, 128u), (const char *)call->argv[2].data);
		return;
	}
	if (value->len > CLIENT_LIB_MAX || !is_graphic(value)) {
		bw_resp__reply_error(call, "ERR %s cannot contain spaces, newlines or special characters.",
			is_name ? "lib-name" : "lib-ver");
		return;
	}
	if (client_set(call, is_name ? BW_RESP__CLIENT_LIB_NAME : BW_RESP__CLIENT_LIB_VER, value))
		bw_resp__reply_ok(call);
}

void bw_resp__run_client_no_evict(struct bw_resp__call *call)
{
	/* No client is ever closed to make room: that is what it asks for, and CLIENT LIST shows that it asked. */
	if (bw_resp__arg_is(&call->argv[2], "on")) {
		call->conn->flags |= BW_RESP__NO_EVICT;
	} else if (bw_resp__arg_is(&call->argv[2], "off")) {
		call->conn->flags &= (uint16_t)~BW_RESP__NO_EVICT;
	} else {
		bw_resp__reply_syntax_error(call);
		return;
	}
	bw_resp__reply_ok(call);
}

/* The caller drops the replies, bw_resp__silence(). */
void bw_resp__run_client_reply(struct bw_resp__call *call)
{
	const struct bw_resp__arg *how = &call->argv[2];

	if (bw_resp__arg_is(how, "on"))
		call->conn->flags &=
			(uint16_t) ~(BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP | BW_RESP__REPLY_SKIP_NEXT);
	else if (bw_resp__arg_is(how, "off"))
		call->conn->flags |= BW_RESP__REPLY_OFF;
	else if (bw_resp__arg_is(how, "skip"))
		call->conn->flags |= (call->conn->flags & BW_RESP__REPLY_OFF) == 0 ? BW_RESP__REPLY_SKIP : 0;
	else {
		bw_resp__reply_syntax_error(call);
		return;
	}
	bw_resp__reply_ok(call);
}

/* ---- a line for each ---- */

struct line {
	char text[1024];
	unsigned len;
};

static void add_address(const struct bw_ip *ip, uint16_t port_be, char out[BW_IP_STRLEN + 8])
{
	char text[BW_IP_STRLEN];

	snprintf(out, BW_IP_STRLEN + 8, bw_ip_is_v4(ip) ? "%s:%u" : "[%s]:%u", bw_ip_format(ip, text),
		__builtin_bswap16(port_be));
}

static const char *command_name(uint8_t number)
{
	if (number == BW_RESP__NO_COMMAND)
		return "NULL";
	return number < 128 ? bw_resp__commands[number].name : bw_resp__subcommands[number - 128].name;
}

/* Redis's fields, in its order; what does not exist here is 0. lib-name and lib-ver are those of 7.2. */
static void describe(const struct bw_resp *r, struct bw_stream *s, struct line *line)
{
	const struct bw_resp__conn *conn = bw_stream_state(s);
	const struct bw_flow *flow = bw_stream_flow(s);
	uint32_t now_s = (uint32_t)(bw_context_now(r->ctx) / BW_NS_PER_SEC), len[3];
	char remote[BW_IP_STRLEN + 8], local[BW_IP_STRLEN + 8], flags[8] = "";
	uint64_t gathered = conn->busy->gather != NULL ? conn->busy->gather->head->total_bytes : 0;
	const char *text[3];
	int n;

	add_address(&flow->remote, flow->remote_port_be, remote);
	add_address(&flow->local, flow->local_port_be, local);
	for (unsigned i = 0; i < 3; i++)
		text[i] = client_text(conn, i, &len[i]);
	if (conn->flags & BW_RESP__CLOSING)
		strcat(flags, "c");
	if (conn->flags & BW_RESP__NO_EVICT)
		strcat(flags, "e");
	n = snprintf(line->text, sizeof(line->text),
		"id=%llu addr=%s laddr=%s fd=-1 name=%.*s age=%u idle=%u flags=%s db=0 sub=0 psub=0 ssub=0 multi=-1 "
		"qbuf=%u qbuf-free=0 argv-mem=%llu multi-mem=0 rbs=0 rbp=0 obl=0 oll=%u omem=%u tot-mem=%llu events=r "
		"cmd=%s user=default redir=-1 resp=%d lib-name=%.*s lib-ver=%.*s\n",
		(ull)bw_resp__client_id(r, conn), remote, local, (int)len[0], text[0], now_s - conn->opened_s,
		now_s - conn->used_s, flags[0] != '\0' ? flags : "N", bw_stream_unread(s), (ull)gathered,
		conn->busy->waiting_count, conn->busy->emit != NULL ? conn->busy->emit_left : 0,
		(ull)(sizeof(*conn) + gathered +
			(conn->busy->client != NULL ? bw_resp__block_bytes(conn->busy->client) : 0)),
		command_name(conn->last_command), (conn->flags & BW_RESP__RESP3) != 0 ? 3 : 2, (int)len[1],
		text[1], (int)len[2], text[2]);
	BW_ASSERT_LT(n, sizeof(line->text)); /* the texts have their bounds */
	line->len = (unsigned)n;
}

void bw_resp__run_client_info(struct bw_resp__call *call)
{
	struct line line;

	describe(call->r, call->stream, &line);
	bw_resp__reply_verbatim(call, line.text, line.len);
}

/* ---- LIST and KILL ---- */

/* Who is meant. The arguments are parsed anew for each slice: there is no place to keep them that is cheaper. */
struct filter {
	const struct bw_resp__arg *ids, *addr, *laddr;
	uint32_t id_count;
	bool is_nobody; /* a type that does not exist here */
	bool skips_me, is_old_form;
};

static bool is_type(struct bw_resp__call *call, const struct bw_resp__arg *arg, struct filter *filter)
{
	static const char *const others[] = { "master", "replica", "slave", "pubsub" };

	if (bw_resp__arg_is(arg, "normal"))
		return true;
	for (unsigned i = 0; i < BW_ARRAY_LEN(others); i++)
		if (bw_resp__arg_is(arg, others[i])) {
			filter->is_nobody = true;
			return true;
		}
	bw_resp__reply_error(
		call, "ERR Unknown client type '%.*s'", (int)BW_MIN(arg->len, 128u), (const char *)arg->data);
	return false;
}

/* False after an error reply. */
static bool parse_list(struct bw_resp__call *call, struct filter *filter)
{
	int64_t id;

	if (call->argc == 2)
		return true;
	if (call->argc == 4 && bw_resp__arg_is(&call->argv[2], "type"))
		return is_type(call, &call->argv[3], filter);
	if (call->argc == 3 || !bw_resp__arg_is(&call->argv[2], "id")) {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	filter->ids = &call->argv[3];
	filter->id_count = call->argc - 3;
	if (filter->id_count > IDS_MAX) {
		bw_resp__reply_error(call, "ERR more than %u client IDs", IDS_MAX);
		return false;
	}
	for (uint32_t i = 0; i < filter->id_count; i++)
		if (!bw_resp__arg_int(&filter->ids[i], &id)) {
			bw_resp__reply_error(call, "ERR Invalid client ID");
			return false;
		}
	return true;
}

/* One option of the new form. False after an error reply. */
static bool parse_kill_option(
	struct bw_resp__call *call, const struct bw_resp__arg *arg, struct filter *filter)
{
	const struct bw_resp__arg *value = arg + 1;
	int64_t id;

	if (arg == &call->argv[call->argc - 1]) {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	if (bw_resp__arg_is(arg, "id")) {
		if (!bw_resp__arg_int(value, &id) || id < 1) {
			bw_resp__reply_error(call, "ERR client-id should be greater than 0");
			return false;
		}
		filter->ids = value;
		filter->id_count = 1;
	} else if (bw_resp__arg_is(arg, "type")) {
		return is_type(call, value, filter);
	} else if (bw_resp__arg_is(arg, "addr")) {
		filter->addr = value;
	} else if (bw_resp__arg_is(arg, "laddr")) {
		filter->laddr = value;
	} else if (bw_resp__arg_is(arg, "user")) {
		if (value->len == 7 && memcmp(value->data, "default", 7) == 0)
			return true;
		bw_resp__reply_error(call, "ERR No such user '%.*s'", (int)BW_MIN(value->len, 128u),
			(const char *)value->data);
		return false;
	} else if (bw_resp__arg_is(arg, "skipme") && bw_resp__arg_is(value, "yes")) {
		filter->skips_me = true;
	} else if (bw_resp__arg_is(arg, "skipme") && bw_resp__arg_is(value, "no")) {
		filter->skips_me = false;
	} else {
		bw_resp__reply_syntax_error(call);
		return false;
	}
	return true;
}

static bool is_list(const struct bw_resp__command *command)
{
	return strcmp(command->name, "client|list") == 0;
}

/* False after an error reply. */
static bool parse(struct bw_resp__call *call, struct filter *filter)
{
	*filter = (struct filter){ 0 };
	if (is_list(call->command))
		return parse_list(call, filter);
	if (call->argc == 3) {
		filter->is_old_form = true;
		filter->addr = &call->argv[2];
		return true;
	}
	filter->skips_me = true;
	for (uint32_t i = 2; i < call->argc; i += 2)
		if (!parse_kill_option(call, &call->argv[i], filter))
			return false;
	return true;
}

bool bw_resp__check_tour(struct bw_resp__call *call)
{
	struct filter filter;

	return parse(call, &filter);
}

static bool is_at(const struct bw_resp__arg *arg, const struct bw_ip *ip, uint16_t port_be)
{
	char text[BW_IP_STRLEN + 8];

	add_address(ip, port_be, text);
	return arg->len == strlen(text) && memcmp(arg->data, text, arg->len) == 0;
}

static bool matches(
	const struct filter *filter, const struct bw_resp *r, struct bw_stream *s, uint64_t caller)
{
	const struct bw_flow *flow = bw_stream_flow(s);
	uint64_t id = bw_resp__client_id(r, bw_stream_state(s));
	bool is_named = filter->ids == NULL;

	for (uint32_t i = 0; i < filter->id_count && !is_named; i++) {
		int64_t wanted = 0;

		is_named = bw_resp__arg_int(&filter->ids[i], &wanted) && (uint64_t)wanted == id;
	}
	return is_named && !filter->is_nobody && !(filter->skips_me && id == caller) &&
	       (filter->addr == NULL || is_at(filter->addr, &flow->remote, flow->remote_port_be)) &&
	       (filter->laddr == NULL || is_at(filter->laddr, &flow->local, flow->local_port_be));
}

/* The caller gets its reply first. Whoever has replies to come gets no more of them. */
static void end(const struct bw_resp *r, struct bw_stream *s, uint64_t caller)
{
	struct bw_resp__conn *conn = bw_stream_state(s);

	conn->flags |= BW_RESP__CLOSING;
	if (bw_resp__client_id(r, conn) == caller)
		return;
	if (conn->busy->emit == NULL && conn->busy->first == NULL) {
		bw_stream_close(s);
		return;
	}
	conn->flags |= BW_RESP__ABORTED;
	bw_stream_abort(s);
}

/* False: no memory for its line. */
static bool list_one(struct bw_resp *r, struct bw_stream *s, struct bw_resp__request *part)
{
	struct bw_resp__chunk *blob = (struct bw_resp__chunk *)part->value;
	struct line line;
	bool ok;

	describe(r, s, &line);
	ok = bw_resp__blob_append(&r->store, &blob, (const uint8_t *)line.text, line.len, 0);
	part->value = blob != NULL ? &blob->b : NULL;
	return ok;
}

void bw_resp__tour(struct bw_resp *r, struct bw_resp__request *part)
{
	struct bw_stream *at =
		part->tour == BW_RESP__TOUR_NEW ? bw_resp__stream_at(r, r->streams_first) : part->tour_at;
	struct bw_resp__call call = { .r = r, .command = part->command, .argv = r->argv, .request = part };
	struct bw_resp__request **link;
	struct filter filter;
	uint32_t budget;

	for (link = &r->tours; *link != NULL; link = &(*link)->next)
		if (*link == part) {
			*link = part->next;
			break;
		}
	call.argc = bw_resp__gather_args(part->parent->gather, r->argv);
	parse(&call, &filter);
	budget = SLICE * IDS / (IDS + filter.id_count) + 1;
	while (at != NULL && budget-- > 0) {
		struct bw_resp__conn *conn = bw_stream_state(at);
		struct bw_stream *next = bw_resp__stream_at(r, conn->list_next);

		/* Who is on the way out is still there for LIST, as in Redis. */
		if (matches(&filter, r, at, part->caller)) {
			if (!is_list(part->command)) {
				if ((conn->flags & BW_RESP__CLOSING) == 0) {
					part->sum++;
					end(r, at, part->caller);
				}
			} else if (!list_one(r, at, part)) {
				part->is_over_memory = true;
				next = NULL;
			}
		}
		at = next;
	}
	part->tour_at = at;
	part->tour = at != NULL ? BW_RESP__TOUR_ON : BW_RESP__TOUR_DONE;
	if (at == NULL)
		return;
	part->next = r->tours;
	r->tours = part;
}

void bw_resp__tours_skip(struct bw_resp *r, struct bw_stream *s)
{
	for (struct bw_resp__request *part = r->tours; part != NULL; part = part->next)
		if (part->tour_at == s)
			part->tour_at = bw_resp__stream_at(
				r, ((struct bw_resp__conn *)bw_stream_state(s))->list_next);
}

void bw_resp__finish_tour(struct bw_resp__call *call)
{
	const struct bw_resp__request *whole = call->request;
	uint64_t len = 0;
	char text[48];
	int n;

	if (is_list(whole->command)) {
		for (const struct bw_resp__request *part = whole->parts; part != NULL; part = part->next)
			len += bw_resp__block_value_bytes(part->value);
		n = snprintf(text, sizeof(text), call->is_resp3 ? "=%llu\r\ntxt:" : "$%llu\r\n",
			(ull)(len + (call->is_resp3 ? 4 : 0)));
		/* The last part is followed by a CRLF; where there is none, here. */
		bw_resp__reply_text(call, text, (uint32_t)n);
		if (len == 0) {
			strcat(text, "\r\n");
			bw_resp__reply_text(call, text, (uint32_t)n + 2);
		}
	} else if (whole->gather->argc > 3) {
		bw_resp__reply_int(call, whole->sum);
	} else if (whole->sum > 0) {
		bw_resp__reply_ok(call);
	} else {
		bw_resp__reply_error(call, "ERR No such client");
	}
}

void bw_resp__run_client_help(struct bw_resp__call *call)
{
	static const char *const lines[] = { "GETNAME", "    The name of this connection.", "ID",
		"    Its number.", "INFO", "    What is known of it.", "KILL <ip:port>",
		"    End the connection from there.",
		"KILL <ADDR ip:port | LADDR ip:port | ID number | TYPE type | USER name> [...] [SKIPME (YES|NO)]",
		"    End all connections that fit; without this one, unless SKIPME is NO.",
		"LIST [TYPE type | ID number [number ...]]", "    What is known of all connections.",
		"NO-EVICT (ON|OFF)", "    Ask that this connection is not closed to make room; none ever is.",
		"REPLY (ON|OFF|SKIP)", "    Whether commands are answered.",
		"SETINFO <LIB-NAME | LIB-VER> <value>", "    Say what the client is.", "SETNAME <name>",
		"    Name this connection.", NULL };

	bw_resp__reply_help(call, lines);
}
