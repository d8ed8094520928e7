/* SPDX-License-Identifier: BSD-3-Clause */
/** The files in config/ are good, and every key and flag is in docs/configuration.md and config/full.yaml. */
#include <dirent.h>

#include "capture.h"
#include "internal.h"

static char *docs;

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 18);

	assert_non_null(text);
	if (file == NULL)
		fail_msg("%s is missing", path);
	assert_true(fread(text, 1, (1 << 18) - 1, file) > 100);
	fclose(file);
	return text;
}

static bool is_documented(const char *what)
{
	char row[PATH_BYTES + 8];

	snprintf(row, sizeof(row), "| `%s` |", what);
	return strstr(docs, row) != NULL;
}

static void key_in_docs(const char *path, void *arg)
{
	unsigned *missing = arg;

	if (is_documented(path))
		return;
	print_error("docs/configuration.md has no row for %s\n", path);
	++*missing;
}

static void every_key_is_documented(void **state)
{
	unsigned missing = 0;

	bw_control__keys_visit(key_in_docs, &missing);
	assert_int_equal(missing, 0);
	assert_false(is_documented("frobnicate"));
}

static void count_key(const char *path, void *arg)
{
	++*(unsigned *)arg;
}

/** And nothing is documented that is not there: as many rows that name a key as there are keys. */
static void every_documented_key_is_there(void **state)
{
	const char *keys = strstr(docs, "\n## Keys"), *end;
	unsigned count = 0, rows = 0;

	assert_non_null(keys);
	end = strstr(keys + 1, "\n## ");
	for (const char *at = keys; (at = strstr(at, "\n| `")) != NULL && (end == NULL || at < end); at++)
		rows++;
	bw_control__keys_visit(count_key, &count);
	assert_true(count > 40);
	assert_int_equal(rows, count);
}

static void every_flag_is_documented(void **state)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	unsigned flags = 0, missing = 0;

	assert_non_null(out);
	bw_conf_usage(out);
	fclose(out);
	for (char *at = text; (at = strstr(at, "--")) != NULL; flags++) {
		size_t len = strcspn(at, " =\n");
		char row[64];

		snprintf(row, sizeof(row), "`%.*s", (int)len, at);
		at += len;
		if (strstr(docs, row) == NULL) {
			print_error("docs/configuration.md does not have %s\n", row + 1);
			missing++;
		}
	}
	assert_true(flags > 20);
	assert_int_equal(missing, 0);
	free(text);
}

static struct bw_conf *load(const char *path)
{
	char *argv[] = { "-c", (char *)path };
	struct outcome outcome = configure(2, argv);

	if (outcome.error != 0)
		print_error("%s", outcome.said);
	assert_int_equal(outcome.error, 0);
	assert_string_equal(outcome.said, "");
	return outcome.conf;
}

static void every_file_in_config_is_good(void **state)
{
	DIR *dir = opendir("config");
	unsigned count = 0;

	assert_non_null(dir);
	for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
		char path[300];

		if (strstr(entry->d_name, ".yaml") == NULL)
			continue;
		snprintf(path, sizeof(path), "config/%s", entry->d_name);
		bw_conf_destroy(load(path));
		count++;
	}
	closedir(dir);
	assert_true(count >= 3);
}

/** "http[2].port" is "http[].port". */
static bool is_set(const struct bw_conf *conf, const char *path)
{
	for (unsigned i = 0; i < conf->origin_count; i++) {
		char plain[PATH_BYTES], *to = plain;

		for (const char *from = conf->origins[i].path; *from != '\0'; from++)
			if (*from < '0' || *from > '9')
				*to++ = *from;
		*to = '\0';
		if (strcmp(plain, path) == 0)
			return true;
	}
	return false;
}

struct search {
	const struct bw_conf *conf;
	unsigned missing;
};

static void key_in_full(const char *path, void *arg)
{
	struct search *search = arg;

	if (is_set(search->conf, path))
		return;
	print_error("config/full.yaml does not have %s\n", path);
	search->missing++;
}

static void full_has_every_key(void **state)
{
	struct search search = { .conf = load("config/full.yaml") };

	bw_control__keys_visit(key_in_full, &search);
	assert_int_equal(search.missing, 0);
	assert_false(is_set(search.conf, "frobnicate"));
	bw_conf_destroy((struct bw_conf *)search.conf);
}

static int docs_read(void **state)
{
	if (chdir(SOURCE_ROOT) != 0)
		return -1;
	docs = read_file("docs/configuration.md");
	return 0;
}

static int docs_free(void **state)
{
	free(docs);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_documented),
		cmocka_unit_test(every_documented_key_is_there),
		cmocka_unit_test(every_flag_is_documented),
		cmocka_unit_test(every_file_in_config_is_good),
		cmocka_unit_test(full_has_every_key),
	};

	return cmocka_run_group_tests(tests, docs_read, docs_free);
}
