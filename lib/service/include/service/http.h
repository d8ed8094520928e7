/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * HTTP/1.1 server (RFC 9110, RFC 9112): its configuration, and what answers requests that no document can.
 *
 * A handler is to one request what a service is to a connection: callbacks on the core that owns it, which must not
 * block. It is given the request's head, then the body as views into the packets, and answers when it will: with a
 * whole response, or piece by piece. Requests of one connection are handed over as they come, up to
 * pipeline_depth_max, and answered in their order: a handler whose turn has not come yet may read its body, compute
 * and bw_http_reply(), which waits for the turn, but bw_http_start() is refused until then.
 *
 * docs/http.md shows a handler from nothing.
 */
#pragma once

#include <service/service.h>

enum bw_http_method {
	BW_HTTP_GET,
	BW_HTTP_HEAD,
	BW_HTTP_OPTIONS,
	BW_HTTP_POST,
	BW_HTTP_PUT,
	BW_HTTP_DELETE,
	BW_HTTP_PATCH,
	BW_HTTP_TRACE,
	BW_HTTP_CONNECT,
	BW_HTTP_UNKNOWN, /* to RFC 9110 and RFC 5789: 501 */
};

/** Part of a request. Not terminated. */
struct bw_http_text {
	const char *at;
	uint32_t len;
};

/** A request's head. It and all it points to is valid until begin() returns. */
struct bw_http_head {
	enum bw_http_method method;
	struct bw_http_text target; /* as it came: path and query, or an absolute URI */
	struct bw_http_text path;   /* decoded, without dot segments: what routes were compared with */
	struct bw_http_text query;  /* behind the '?', as it came */
	struct bw_http_text host;   /* without port, as it came; empty in HTTP/1.0 */
	struct bw_http_text fields; /* all header fields: for bw_http_field() */
	bool has_body;
	bool is_chunked;     /* the body's length is not known */
	uint64_t body_bytes; /* else it is this */
};

struct bw_http_exchange; /* a request and its response */

/** Bytes of state a handler has for each exchange: bw_http_state(). */
#define BW_HTTP_STATE_BYTES 128
/** bw_http_response.length when it is not known. The response is chunked, or in HTTP/1.0 ends with the connection. */
#define BW_HTTP_UNTIL_END   UINT64_MAX
/** Bytes that bw_http_response.type and .fields may have together. */
#define BW_HTTP_FIELDS_MAX  512

/** What answers a request. Unused callbacks stay NULL. */
struct bw_http_handler {
	const char *name;
	/** A request. Its state is zeroed. */
	void (*begin)(struct bw_http_exchange *x, const struct bw_http_head *head);
	/**
	 * Bytes of its body. Returns how many it is done with; the rest closes the receive window, and comes again with the
	 * next arrival, after writable(), or when bw_http_read() asks. NULL: the body is read and discarded.
	 */
	uint32_t (*body)(struct bw_http_exchange *x, const struct bw_view *view);
	/** The body, if there is one, is over. Not called when the response was ended before. */
	void (*body_end)(struct bw_http_exchange *x);
	/** Something was refused, and now its turn has come, or there is room again. */
	void (*writable)(struct bw_http_exchange *x);
	/** The connection is over, or the body was malformed or too late, before the response was ended: the last call. */
	void (*closed)(struct bw_http_exchange *x);
};

struct bw_http_response {
	uint16_t status;    /* 200 to 599 */
	const char *type;   /* Content-Type, or NULL */
	const char *fields; /* more header fields, each with its CR LF, or NULL */
	uint64_t length;    /* of the body; of bw_http_start() alone */
};

/** BW_HTTP_STATE_BYTES, aligned for anything. */
void *bw_http_state(struct bw_http_exchange *x);
/** The route's. */
void *bw_http_arg(const struct bw_http_exchange *x);
/** NULL once the connection is over. For its time and addresses; reading and writing it breaks the framing. */
struct bw_stream *bw_http_stream(const struct bw_http_exchange *x);
struct bw_context *bw_http_context(const struct bw_http_exchange *x);

/** The first field of that name (in lower case), without white space around it. False: there is none. */
bool bw_http_field(const struct bw_http_head *head, const char *name, struct bw_http_text *value);

/** Offer body() once more what it did not take. */
void bw_http_read(struct bw_http_exchange *x);

/**
 * The whole response. `body` and the response's texts must not change until `release(arg)`, called once, on any core;
 * with release NULL they never do. Once an exchange. A body that does not fit the send queue at once is copied, as is one
 * that fits the state, which may be in the state.
 */
void bw_http_reply(struct bw_http_exchange *x, const struct bw_http_response *response, const void *body,
	uint64_t body_bytes, void (*release)(void *arg), void *arg);

/**
 * The head of a response whose body follows. Its texts are copied. False: writable() will tell when. Within begin(), of a
 * request that expects 100 Continue, it is instead of that, and ends the connection: start with the body's first bytes.
 */
bool bw_http_start(struct bw_http_exchange *x, const struct bw_http_response *response);
/** Copy. Returns how many bytes were taken; what was not must be offered again, after writable(). */
uint32_t bw_http_write(struct bw_http_exchange *x, const void *data, uint32_t len);
/**
 * Without copying, as bw_stream_send_ref(). False: nothing was taken; offer the same bytes after writable(). Cut to
 * bw_http_space() what may be larger.
 */
bool bw_http_write_ref(
	struct bw_http_exchange *x, const void *data, uint32_t len, void (*release)(void *arg), void *arg);
/** Bytes that a write would take now. */
uint32_t bw_http_space(const struct bw_http_exchange *x);
/** The body is complete: `length` bytes of it, where that was said. */
void bw_http_end(struct bw_http_exchange *x);
/** Reset the connection: all that can still be said when a response cannot be finished. closed() is not called. */
void bw_http_abort(struct bw_http_exchange *x);

/**
 * Run work(state) on a helper thread, where it may block, and then done(x) here. The state is the job's meanwhile.
 * Should the connection end first, done() comes all the same, with a bw_http_stream() of NULL, and is the last call.
 * One at a time. 0, or -EBUSY when the helpers' queue is full.
 */
int bw_http_job(
	struct bw_http_exchange *x, void (*work)(void *state), void (*done)(struct bw_http_exchange *x));

/** 200 "ok", and 503 "draining" once the engine is ending: for load balancers. */
extern const struct bw_http_handler bw_http_health;
/** 200 with the request's body, as it comes. */
extern const struct bw_http_handler bw_http_echo;

/**
 * Requests for a path, or for all below one, go to a handler. Compared with the decoded path, byte by byte. Of several
 * that match, the exact one is taken, then a constant of that path, then the longest prefix, then documents. A GET or
 * HEAD that no route has the method for goes on to documents, another method is answered with 405.
 */
struct bw_http_route {
	const char *path; /* from '/' on */
	bool is_prefix;
	uint16_t methods; /* 1 << enum bw_http_method each; GET has HEAD with it. 0: all that there are */
	const struct bw_http_handler *handler;
	void *arg;
	uint64_t body_bytes_max; /* more is a 413; 0: the configuration's */
};

/** A constant response: `path` exact, query ignored. */
struct bw_http_constant {
	const char *path;
	const char *content_type;
	const char *body; /* body_bytes of it; not copied, lives as long as the service */
	size_t body_bytes;
	uint16_t status; /* 200 when 0 */
};

/** A field of every response. */
struct bw_http_header {
	const char *name, *value;
};
/** Of all of a site's, with their line ends: a head is at most 1,024 bytes. */
#define BW_HTTP_HEADERS_BYTES_MAX 384u
/** NULL, or what is wrong and what to do. */
const char *bw_http_header_fault(const struct bw_http_header *header);

/** The body of all answers of a status that the server makes itself: a file. */
struct bw_http_page {
	uint16_t status;  /* 400 to 599, but not 416 */
	const char *path; /* as in a request: below the root */
};

/**
 * What is served to requests for one host, or for all that no other site has. A virtual host (RFC 9110 section 7.2) is
 * a site with names.
 */
struct bw_http_site {
	const char *const
		*names; /* Host without its port, in lower case: "example.org", or "*.example.org" */
	unsigned name_count;
	const char *root;  /* document root, or NULL: constants only */
	const char *index; /* file served for a directory; NULL: "index.html" */
	const struct bw_http_constant *constants;
	unsigned constant_count;
	const struct bw_http_route *routes; /* at most BW_HTTP_ROUTES_MAX */
	unsigned route_count;
	const struct bw_http_header *headers;
	unsigned header_count;
	const struct bw_http_page *pages;
	unsigned page_count;
	const char *charset; /* of text/ types; NULL or "off": none is told */
	bool precompressed;  /* of FILE, FILE.br and FILE.gz are sent to who takes them */
	bool listing;        /* of directories without index */
};

enum bw_http_log_format {
	BW_HTTP_LOG_COMBINED, /* of Apache and nginx */
	BW_HTTP_LOG_JSON,     /* an object a line */
};

#define BW_HTTP_ROUTES_MAX 64
#define BW_HTTP_HOSTS_MAX  64
#define BW_HTTP_NAMES_MAX  1024 /* of all hosts */

struct bw_http_conf {
	struct bw_http_site site;         /* of hosts that no other site names; it has no names */
	const struct bw_http_site *hosts; /* those that have names */
	unsigned host_count;
	const char *mime_types;   /* a table in the form of /etc/mime.types, which is the default */
	uint64_t cache_bytes_max; /* files held in memory, all workers together; 0: a quarter of RAM */
	uint64_t
		cache_file_bytes_max; /* larger files are not held, but read while they are sent; 0: an eighth of the
					    cache, at most 64 MiB */
	unsigned
		watches_max; /* directories whose changes inotify tells; default 8192. What is beyond is looked at */
	uint32_t request_line_bytes_max; /* default 4096: above it 414 */
	uint32_t header_bytes_max; /* request line and headers; default 8192: above it 431. At most 16384 */
	uint32_t header_count_max; /* default 100: above it 431 */
	uint64_t body_bytes_max;   /* a request's body; default 1 MiB: above it 413 */
	uint32_t
		pipeline_depth_max; /* responses queued or awaited a connection; default 64, then reading pauses */
	bw_ns header_timeout_ns;  /* first byte of a request to its last header; default 10 s: 408 */
	bw_ns body_timeout_ns;    /* how far a request's body may be behind body_rate; default 10 s: 408 */
	uint64_t body_rate_bytes; /* a second; default 1 KiB. 0: a body must only go on, at whatever rate */
	bw_ns idle_timeout_ns;    /* between requests, or without the client reading; default 60 s: close */
	uint32_t requests_max; /* of a connection, the last is answered with a close; default 0: no bound */
	uint32_t
		per_address_max; /* connections of an address, all workers together; default 0: no bound. 429 */
	const char *access_log; /* path, "-" for standard output, NULL: none */
	enum bw_http_log_format access_log_format;
	uint64_t
		access_log_bytes_max; /* of requests under way or not yet written, a worker; default 16 MiB */
	/* -- set by bw_http_conf_prepare() -- */
	struct bw_http_router *router;        /* who is served what */
	struct bw_http_files *files;          /* the cache all workers share */
	struct bw_http__log *log;             /* or NULL */
	struct bw_http__addresses *addresses; /* or NULL */
};

/** Defaults. */
void bw_http_site_init(struct bw_http_site *site);
/** Defaults, also for the default site. */
void bw_http_conf_init(struct bw_http_conf *conf);
/** What can be seen without opening anything. 0, or -errno after one line. bw_http_conf_prepare() looks, too. */
int bw_http_conf_check(const struct bw_http_conf *conf);
/**
 * Check, and make what the workers share. Before the workers start. 0, or -errno after one line that says
 * what, where and what to do (document root missing, not a directory, unreadable).
 */
int bw_http_conf_prepare(struct bw_http_conf *conf);
/** After the workers have stopped. */
void bw_http_conf_release(struct bw_http_conf *conf);
