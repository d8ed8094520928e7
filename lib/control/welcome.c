/* SPDX-License-Identifier: BSD-3-Clause */
/** What an HTTP service answers on / while nobody has given it a document root or a constant. */
#include "internal.h"

static const char page[] =
	"<!DOCTYPE html>\n"
	"<html lang=\"en\">\n"
	"<head>\n"
	"<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n"
	"<title>Barewire</title>\n"
	"<style>\n"
	"body { font: 1.1em/1.6 system-ui, sans-serif; max-width: 36em; margin: 12vh auto; padding: 0 1em }\n"
	"code { background: #8882; padding: .1em .3em; border-radius: .2em }\n"
	"</style>\n"
	"</head>\n"
	"<body>\n"
	"<h1>It works.</h1>\n"
	"<p>This page came from Barewire: no kernel socket was involved on the server's side.</p>\n"
	"<p>Serve files of yours with <code>barewire serve --http 8080=/srv/www</code>.</p>\n"
	"</body>\n"
	"</html>\n";

const struct bw_http_constant bw_control__welcome = {
	.path = "/",
	.content_type = "text/html; charset=utf-8",
	.body = page,
	.body_bytes = sizeof(page) - 1,
	.status = 200,
};
