/* SPDX-License-Identifier: BSD-3-Clause */
/* HELLO, AUTH, RESET: who a connection is and what it speaks. */
#include "text.h"

bool bw_resp__is_allowed_before_auth(const struct bw_resp__command *command)
{
	return command->run == bw_resp__run_auth || command->run == bw_resp__run_hello ||
	       command->run == bw_resp__run_quit || command->run == bw_resp__run_reset;
}

/* How long it takes does not depend on where they differ, nor on how long the right one is. */
static bool is_password(const struct bw_resp_conf *conf, const struct bw_resp__arg *arg)
{
	uint8_t given[sizeof(conf->password)] = { 0 };
	uint32_t difference = arg->len ^ conf->password_len;

	memcpy(given, arg->data, BW_MIN(arg->len, (uint32_t)sizeof(given)));
	for (size_t i = 0; i < sizeof(given); i++)
		difference |= given[i] ^ (uint8_t)conf->password[i];
	return difference == 0;
}

/* There is one user, "default"; where there is no password, any is right, as in Redis. False after an error reply. */
static bool authenticate(
	struct bw_resp__call *call, const struct bw_resp__arg *user, const struct bw_resp__arg *password)
{
	const struct bw_resp_conf *conf = call->r->conf;
	bool is_default = user == NULL || (user->len == 7 && memcmp(user->data, "default", 7) == 0);
	bool is_right = is_password(conf, password) || conf->password_len == 0;

	if (!is_default || !is_right) {
		bw_resp__reply_error(call, "WRONGPASS invalid username-password pair or user is disabled.");
		return false;
	}
	call->conn->flags &= (uint16_t)~BW_RESP__UNAUTHENTICATED;
	return true;
}

void bw_resp__run_auth(struct bw_resp__call *call)
{
	const struct bw_resp__arg *user = call->argc == 3 ? &call->argv[1] : NULL;

	if (call->argc > 3)
		bw_resp__reply_syntax_error(call);
	else if (call->argc == 2 && call->r->conf->password_len == 0)
		bw_resp__reply_error(call,
			"ERR AUTH <password> called without any password configured for the default user. "
			"Are you sure your configuration is correct?");
	else if (authenticate(call, user, &call->argv[call->argc - 1]))
		bw_resp__reply_ok(call);
}

void bw_resp__run_hello(struct bw_resp__call *call)
{
	struct bw_resp__text t;
	int64_t version = 0;

	if (call->argc > 1 && !bw_resp__arg_int(&call->argv[1], &version)) {
		bw_resp__reply_error(call, "ERR Protocol version is not an integer or out of range");
		return;
	}
	if (call->argc > 1 && version != 2 && version != 3) {
		bw_resp__reply_error(call, "NOPROTO unsupported protocol version");
		return;
	}
	for (uint32_t i = 2; i < call->argc; i++) {
		const struct bw_resp__arg *arg = &call->argv[i];

		if (bw_resp__arg_is(arg, "auth") && i + 2 < call->argc) {
			if (!authenticate(call, &call->argv[i + 1], &call->argv[i + 2]))
				return;
			i += 2;
		} else if (bw_resp__arg_is(arg, "setname") && i + 1 < call->argc) {
			if (!bw_resp__set_name(call, &call->argv[++i]))
				return;
		} else {
			bw_resp__reply_error(call, "ERR Syntax error in HELLO option '%.*s'",
				(int)BW_MIN(arg->len, 128u), (const char *)arg->data);
			return;
		}
	}
	if (call->conn->flags & BW_RESP__UNAUTHENTICATED) {
		bw_resp__reply_error(call,
			"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH "
			"<user> <pass> option can be used to authenticate the client and select the RESP protocol version "
			"at the same time");
		return;
	}
	if (version == 3)
		call->conn->flags |= BW_RESP__RESP3;
	else if (version == 2)
		call->conn->flags &= (uint16_t)~BW_RESP__RESP3;
	call->is_resp3 = (call->conn->flags & BW_RESP__RESP3) != 0;
	t = bw_resp__text_begin(call);
	bw_resp__text_map(&t, 7);
	bw_resp__text_bulk(&t, "server");
	bw_resp__text_bulk(&t, "redis");
	bw_resp__text_bulk(&t, "version");
	bw_resp__text_bulk(&t, BW_RESP__VERSION);
	bw_resp__text_bulk(&t, "proto");
	bw_resp__text_add(&t, ":%d\r\n", call->is_resp3 ? 3 : 2);
	bw_resp__text_bulk(&t, "id");
	bw_resp__text_add(&t, ":%llu\r\n", (bw_resp__ull)bw_resp__client_id(call->r, call->conn));
	bw_resp__text_bulk(&t, "mode");
	bw_resp__text_bulk(&t, "standalone");
	bw_resp__text_bulk(&t, "role");
	bw_resp__text_bulk(&t, "master");
	bw_resp__text_bulk(&t, "modules");
	bw_resp__text_array(&t, 0);
	bw_resp__text_reply(call, &t);
}

void bw_resp__run_reset(struct bw_resp__call *call)
{
	static const struct bw_resp__arg none = { .data = (const uint8_t *)"" };

	/* What the client is it stays. This takes no memory. */
	if (!bw_resp__set_name(call, &none))
		return;
	call->conn->flags &= (uint16_t) ~(
		BW_RESP__RESP3 | BW_RESP__REPLY_OFF | BW_RESP__REPLY_SKIP | BW_RESP__REPLY_SKIP_NEXT);
	if (call->r->conf->password_len > 0)
		call->conn->flags |= BW_RESP__UNAUTHENTICATED;
	bw_resp__reply_literal(call, "+RESET\r\n");
}
