/* SPDX-License-Identifier: BSD-3-Clause */
#include "site.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/log.h>

#include "files.h"
#include "mime.h"
#include "parse.h"
#include "watch.h"

/* ---- checks ------------------------------------------------------------------------------------------- */

/* RFC 9110 5.6.2. */
static bool is_token(const char *text)
{
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++)
		if (!((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
			    (*text >= 'A' && *text <= 'Z') || strchr("!#$%&'*+-.^_`|~", *text) != NULL))
			return false;
	return true;
}

static bool is_field_value(const char *text)
{
	for (; *text != '\0'; text++)
		if ((uint8_t)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static int check_constant(const struct bw_http_constant *constant)
{
	unsigned status = constant->status != 0 ? constant->status : 200;
	uint8_t path[4096];
	uint32_t path_len;

	if (constant->path == NULL || constant->path[0] != '/' || strlen(constant->path) > sizeof(path) ||
		bw_http__path((const uint8_t *)constant->path, (uint32_t)strlen(constant->path), path,
			&path_len) != 0) {
		bw_error("http: constant path '%s' must be an absolute path such as /healthz",
			constant->path != NULL ? constant->path : "");
		return -EINVAL;
	}
	if (constant->content_type != NULL && (strlen(constant->content_type) > BW_HTTP__MIME_TYPE_MAX ||
						      !is_field_value(constant->content_type))) {
		bw_error("http: the content type of %s is over %d bytes or not printable", constant->path,
			BW_HTTP__MIME_TYPE_MAX);
		return -EINVAL;
	}
	if (status < 200 || status > 599 || ((status == 204 || status == 304) && constant->body_bytes > 0)) {
		bw_error("http: status %u of %s: choose 200 to 599; 204 and 304 have no body", status,
			constant->path);
		return -EINVAL;
	}
	return 0;
}

const char *bw_http_header_fault(const struct bw_http_header *header)
{
	/* What a head says of itself, or of the connection. */
	static const char *const ours[] = { "Accept-Ranges", "Allow", "Connection", "Content-Encoding",
		"Content-Length", "Content-Range", "Content-Type", "Date", "ETag", "Keep-Alive",
		"Last-Modified", "Location", "Retry-After", "Server", "Trailer", "Transfer-Encoding",
		"Upgrade" };

	if (header->name == NULL || header->value == NULL)
		return "a header needs name and value; give both";
	if (!is_token(header->name))
		return "the name is not a field name (RFC 9110 section 5.1); give one such as Cache-Control";
	for (unsigned i = 0; i < BW_ARRAY_LEN(ours); i++)
		if (strcasecmp(header->name, ours[i]) == 0)
			return "this field is the server's own; remove it";
	for (const char *c = header->value; *c != '\0'; c++)
		if (((uint8_t)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return "the value has a control character; give it in one line of text";
	return NULL;
}

static int check_headers(const struct bw_http_site *conf)
{
	size_t len = 0;

	for (unsigned i = 0; i < conf->header_count; i++) {
		const struct bw_http_header *header = &conf->headers[i];
		const char *fault = bw_http_header_fault(header);

		if (fault != NULL) {
			bw_error("http: header %.60s: %s", header->name != NULL ? header->name : "", fault);
			return -EINVAL;
		}
		len += strlen(header->name) + strlen(header->value) + strlen(": \r\n");
	}
	if (len > BW_HTTP_HEADERS_BYTES_MAX) {
		bw_error(
			"http: the headers are %zu bytes with their line ends, more than %u: give fewer or shorter "
			"ones",
			len, BW_HTTP_HEADERS_BYTES_MAX);
		return -EINVAL;
	}
	return 0;
}

static int check_pages(const struct bw_http_site *conf)
{
	for (unsigned i = 0; i < conf->page_count; i++) {
		const struct bw_http_page *page = &conf->pages[i];
		uint8_t path[4096];
		uint32_t path_len;

		if (page->path == NULL || page->path[0] != '/' || strlen(page->path) > sizeof(path) ||
			bw_http__path((const uint8_t *)page->path, (uint32_t)strlen(page->path), path,
				&path_len) != 0) {
			bw_error("http: error page '%.60s' must be a path below the root, such as /404.html",
				page->path != NULL ? page->path : "");
			return -EINVAL;
		}
		/* A 416 says the size of what the client asked for (RFC 9110 15.5.17): it has no page of its own. */
		if (page->status < 400 || page->status > 599 || page->status == 416) {
			bw_error("http: %s cannot be the page of status %u: choose 400 to 599, but not 416",
				page->path, page->status);
			return -EINVAL;
		}
		for (unsigned k = 0; k < i; k++)
			if (conf->pages[k].status == page->status) {
				bw_error("http: two error pages for status %u: remove one", page->status);
				return -EINVAL;
			}
		if (conf->root == NULL) {
			bw_error(
				"http: error page %s is a file below the root, and there is none: give a root",
				page->path);
			return -EINVAL;
		}
	}
	return 0;
}

int bw_http__site_check(const struct bw_http_site *conf)
{
	const char *index = conf->index;

	if (index != NULL && (index[0] == '\0' || strchr(index, '/') != NULL || strlen(index) > 255 ||
				     strcmp(index, "..") == 0 || strcmp(index, ".") == 0)) {
		bw_error("http: index '%s' is not a file name: give one without a slash, such as index.html",
			index);
		return -EINVAL;
	}
	for (unsigned i = 0; i < conf->constant_count; i++) {
		int rc = check_constant(&conf->constants[i]);

		if (rc < 0)
			return rc;
	}
	if (conf->charset != NULL &&
		(strlen(conf->charset) > BW_HTTP__CHARSET_MAX || !is_token(conf->charset))) {
		bw_error("http: charset '%.60s' is no name of one: give one such as utf-8, or off",
			conf->charset);
		return -EINVAL;
	}
	return check_headers(conf) < 0 || check_pages(conf) < 0 ? -EINVAL : 0;
}

/* ---- making -------------------------------------------------------------------------------------------- */

/* A descriptor or -errno. */
static int open_root(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	if (faccessat(fd, ".", R_OK | X_OK, AT_EACCESS) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

/* Takes the descriptor. NULL: no memory. */
static struct bw_http__root *make_root(int fd)
{
	static _Atomic uint64_t last_id;
	struct bw_http__root *root = calloc(1, sizeof(*root));
	struct stat st;

	if (root == NULL || fstat(fd, &st) < 0) {
		free(root);
		close(fd);
		return NULL;
	}
	atomic_init(&root->refs, 1);
	root->fd = fd;
	root->is_local = bw_http__is_local(fd);
	root->id = atomic_fetch_add(&last_id, 1) + 1;
	root->device = st.st_dev;
	root->inode = st.st_ino;
	return root;
}

void bw_http__root_put(struct bw_http__root *root)
{
	if (root == NULL || atomic_fetch_sub(&root->refs, 1) != 1)
		return;
	close(root->fd);
	free(root);
}

struct bw_http__root *bw_http__site_find_root(struct bw_http__site *site, const struct bw_http__root *root)
{
	struct stat st;
	int fd, error = stat(site->root_path, &st) < 0 ? errno : 0;

	if (error == 0 && st.st_dev == root->device && st.st_ino == root->inode) {
		atomic_store(&site->root_losses, 0);
		return NULL;
	}
	fd = error == 0 ? open_root(site->root_path) : -error;
	if (fd >= 0) {
		atomic_store(&site->root_losses, 0);
		return make_root(fd);
	}
	/* Between two steps of a swap, there may be none for a moment: what there was is served until the next. */
	if (atomic_fetch_add(&site->root_losses, 1) == 1)
		bw_warn("http: document root %s cannot be opened any more (%s): the directory that it was is served until "
			"there is another",
			site->root_path, strerror(-fd));
	return NULL;
}

static int refuse_root(const char *root, int error)
{
	if (error == ENOENT) {
		bw_error("http: document root %s does not exist: create it or name another", root);
		return -ENOENT;
	}
	if (error == ENOTDIR) {
		bw_error("http: document root %s is not a directory: name the directory that holds the files",
			root);
		return -ENOTDIR;
	}
	bw_error(
		"http: document root %s is not readable (%s): grant read and search permission, or name another",
		root, strerror(error));
	return -error;
}

static int make_headers(struct bw_http__site *site, const struct bw_http_site *conf)
{
	site->headers = malloc(BW_HTTP_HEADERS_BYTES_MAX + 1);
	if (site->headers == NULL)
		return -ENOMEM;
	site->headers[0] = '\0';
	for (unsigned i = 0; i < conf->header_count; i++)
		site->headers_len += (uint32_t)snprintf(site->headers + site->headers_len,
			BW_HTTP_HEADERS_BYTES_MAX + 1 - site->headers_len, "%s: %s\r\n",
			conf->headers[i].name, conf->headers[i].value);
	return 0;
}

static int make_pages(struct bw_http__site *site, const struct bw_http_site *conf)
{
	site->pages = calloc(conf->page_count + 1, sizeof(*site->pages));
	if (site->pages == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->page_count; i++) {
		struct bw_http__page *page = &site->pages[i];
		const char *path = conf->pages[i].path;

		page->status = conf->pages[i].status;
		page->path = malloc(strlen(path));
		if (page->path == NULL)
			return -ENOMEM;
		site->page_count++;
		bw_http__path((const uint8_t *)path, (uint32_t)strlen(path), page->path, &page->path_len);
	}
	return 0;
}

int bw_http__site_init(struct bw_http__site *site, const struct bw_http_site *conf)
{
	int rc;

	site->index = strdup(conf->index != NULL ? conf->index : "index.html");
	site->constants = calloc(conf->constant_count + 1, sizeof(*site->constants));
	if (site->index == NULL || site->constants == NULL)
		return -ENOMEM;
	if (conf->charset != NULL && strcasecmp(conf->charset, "off") != 0) {
		site->charset = strdup(conf->charset);
		if (site->charset == NULL)
			return -ENOMEM;
	}
	site->precompressed = conf->precompressed;
	site->listing = conf->listing;
	rc = make_headers(site, conf);
	if (rc == 0)
		rc = make_pages(site, conf);
	if (rc == 0 && conf->root != NULL) {
		site->root_path = strdup(conf->root);
		if (site->root_path == NULL)
			return -ENOMEM;
		rc = open_root(conf->root);
		if (rc < 0)
			return refuse_root(conf->root, -rc);
		site->root = make_root(rc);
		rc = site->root != NULL ? 0 : -ENOMEM;
	}
	return rc;
}

void bw_http__site_fini(struct bw_http__site *site)
{
	bw_http__root_put(site->root);
	for (unsigned i = 0; i < site->page_count; i++)
		free(site->pages[i].path);
	free(site->pages);
	free(site->constants);
	free(site->headers);
	free(site->charset);
	free(site->index);
	free(site->root_path);
}
