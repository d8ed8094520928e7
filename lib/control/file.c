/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * The YAML file. It is read twice: libyaml's events give every key its line, find unknown and repeated keys, and
 * tell where the syntax breaks; then libcyaml loads it by the schema. libcyaml alone would name the line of the
 * enclosing block for the first and the last of these, and no line for values that later checks refuse.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include <base/log.h>

#include "internal.h"
#include "schema.h"

#define FILE_BYTES_MAX (1024 * 1024)
#define DEPTH_MAX      16
#define KEYS_MAX       64 /* of one mapping of the schema */

static void *reallocate(void *ctx, void *ptr, size_t size)
{
	if (size > 0)
		return realloc(ptr, size);
	free(ptr);
	return NULL;
}

/* ---- the first reading: where is what ------------------------------------------------------------------- */

struct level {
	const cyaml_schema_value_t *schema; /* NULL: libcyaml will complain about what this is in */
	bool is_mapping, has_key;
	unsigned index;                           /* sequence: of the next entry */
	size_t path_len;                          /* of the container itself */
	const cyaml_schema_value_t *value_schema; /* mapping: of the key just seen */
};

struct walk {
	struct bw_conf *conf;
	struct level levels[DEPTH_MAX];
	unsigned depth;
	char path[PATH_BYTES];
};

static const cyaml_schema_field_t *field_find(const cyaml_schema_value_t *schema, const char *key)
{
	if (schema == NULL || schema->type != CYAML_MAPPING)
		return NULL;
	for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key != NULL; field++)
		if (strcmp(field->key, key) == 0)
			return field;
	return NULL;
}

static int unknown_key(
	const struct bw_conf *conf, const cyaml_schema_value_t *schema, const char *key, unsigned line)
{
	const char *names[KEYS_MAX], *nearest;
	unsigned count = 0;

	for (const cyaml_schema_field_t *field = schema->mapping.fields;
		field->key != NULL && count < KEYS_MAX; field++)
		names[count++] = field->key;
	nearest = bw_control__nearest(key, names, count);
	if (nearest != NULL)
		bw_error("%s:%u: %.60s: no such key here; did you mean %s?", conf->file, line, key, nearest);
	else
		bw_error("%s:%u: %.60s: no such key here; docs/configuration.md lists them", conf->file, line,
			key);
	return -EINVAL;
}

/** Append to the path, for what `level` contains. */
static int path_extend(struct walk *walk, const struct level *level, const char *key, unsigned line)
{
	char *at = walk->path + level->path_len;
	size_t room = sizeof(walk->path) - level->path_len;
	int len;

	if (level->is_mapping)
		len = snprintf(at, room, "%s%s", level->path_len > 0 ? "." : "", key);
	else
		len = snprintf(at, room, "[%u]", level->index);
	if (len >= 0 && (size_t)len < room)
		return 0;
	bw_error("%s:%u: %.60s: no such key here; docs/configuration.md lists them", walk->conf->file, line,
		key);
	return -EINVAL;
}

static int walk_key(struct walk *walk, struct level *level, const char *key, unsigned line)
{
	const cyaml_schema_field_t *field = field_find(level->schema, key);
	const struct bw_origin *before;
	int error;

	if (field == NULL && level->schema != NULL && level->schema->type == CYAML_MAPPING)
		return unknown_key(walk->conf, level->schema, key, line);
	error = path_extend(walk, level, key, line);
	if (error != 0)
		return error;
	before = bw_control__origin(walk->conf, walk->path);
	if (before != NULL) {
		bw_error("%s:%u: %s: already given in line %u; remove one of the two", walk->conf->file, line,
			key, before->line);
		return -EINVAL;
	}
	level->has_key = true;
	level->value_schema = field != NULL ? &field->value : NULL;
	return bw_control__origin_add(walk->conf, walk->path, NULL, line);
}

/** A value begins: note an entry of a list. Returns the schema of the value through `schema`. */
static int walk_value(struct walk *walk, unsigned line, const cyaml_schema_value_t **schema)
{
	struct level *level;
	int error;

	if (walk->depth == 0) {
		*schema = &top_schema;
		return 0;
	}
	level = &walk->levels[walk->depth - 1];
	if (level->is_mapping) {
		level->has_key = false;
		*schema = level->value_schema;
		return 0;
	}
	error = path_extend(walk, level, "", line);
	if (error == 0)
		error = bw_control__origin_add(walk->conf, walk->path, NULL, line);
	level->index++;
	*schema = level->schema != NULL && level->schema->type == CYAML_SEQUENCE
			  ? level->schema->sequence.entry
			  : NULL;
	return error;
}

static int walk_event(struct walk *walk, const yaml_event_t *event)
{
	unsigned line = (unsigned)event->start_mark.line + 1;
	struct level *level = walk->depth > 0 ? &walk->levels[walk->depth - 1] : NULL;
	const cyaml_schema_value_t *schema;
	int error;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length) {
			bw_error("%s:%u: a NUL character; remove it", walk->conf->file, line);
			return -EINVAL;
		}
		if (level != NULL && level->is_mapping && !level->has_key)
			return walk_key(walk, level, (const char *)event->data.scalar.value, line);
		return walk_value(walk, line, &schema);
	case YAML_ALIAS_EVENT:
		bw_error("%s:%u: aliases are not understood; write the value out", walk->conf->file, line);
		return -EINVAL;
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		if (walk->depth == DEPTH_MAX || (level != NULL && level->is_mapping && !level->has_key)) {
			bw_error(
				"%s:%u: nested more deeply than any key; docs/configuration.md shows the shape",
				walk->conf->file, line);
			return -EINVAL;
		}
		error = walk_value(walk, line, &schema);
		if (error != 0)
			return error;
		walk->levels[walk->depth++] = (struct level){
			.schema = schema,
			.is_mapping = event->type == YAML_MAPPING_START_EVENT,
			.path_len = strlen(walk->path),
		};
		return 0;
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		walk->path[level->path_len] = '\0';
		walk->depth--;
		return 0;
	case YAML_DOCUMENT_START_EVENT:
		if (walk->path[0] != '\0' || walk->conf->origin_count > 0) {
			bw_error("%s:%u: a second document; one file is one configuration", walk->conf->file,
				line);
			return -EINVAL;
		}
		return 0;
	default:
		return 0;
	}
}

static int places_read(struct bw_conf *conf, const char *text, size_t bytes)
{
	struct walk walk = { .conf = conf };
	yaml_parser_t parser;
	bool ends = false;
	int error = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
	while (error == 0 && !ends) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event)) {
			bw_error("%s:%zu: not YAML: %s; correct it", conf->file, parser.problem_mark.line + 1,
				parser.problem != NULL ? parser.problem : "cannot be read");
			error = -EINVAL;
			break;
		}
		error = walk_event(&walk, &event);
		ends = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return error;
}

/* ---- the second reading: libcyaml ------------------------------------------------------------------------ */

/** What libcyaml said, of which the first line is the cause and the first of the backtrace the place. */
struct verdict {
	char what[160];
	char field[64];
	unsigned line;
	bool has_place;
};

static void verdict_note(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
	struct verdict *verdict = ctx;
	char text[256];

	if (level < CYAML_LOG_ERROR)
		return;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, "Load: Backtrace", 15) == 0)
		return;
	if (text[0] != ' ') {
		if (verdict->what[0] == '\0')
			snprintf(verdict->what, sizeof(verdict->what), "%.150s",
				strncmp(text, "Load: ", 6) == 0 ? text + 6 : text);
		return;
	}
	/* "  in mapping field 'http' (line: 1, column: 7)", or "in sequence entry", or "in mapping": innermost first */
	if (!verdict->has_place) {
		const char *at = strstr(text, "(line: ");

		verdict->has_place = at != NULL && sscanf(at, "(line: %u", &verdict->line) == 1;
	}
	if (verdict->field[0] == '\0')
		sscanf(text, " in mapping field '%63[^']'", verdict->field);
}

static const char *in_plain_words(const char *yaml)
{
	static const char *const words[][2] = {
		{ "STRING", "one value" },
		{ "SCALAR", "one value" },
		{ "MAPPING", "keys with values" },
		{ "MAPPING_START", "keys with values" },
		{ "SEQUENCE", "a list" },
		{ "SEQUENCE_START", "a list" },
	};

	for (unsigned i = 0; i < BW_ARRAY_LEN(words); i++)
		if (strcmp(words[i][0], yaml) == 0)
			return words[i][1];
	return yaml;
}

static int verdict_print(const struct bw_conf *conf, const struct verdict *verdict, cyaml_err_t error)
{
	unsigned line = verdict->has_place ? verdict->line : 1, max;
	const char *field = verdict->field[0] != '\0' ? verdict->field : "the file";
	char wanted[32], got[32];

	if (error == CYAML_ERR_OOM)
		return -ENOMEM; /* which has a line of its own */
	if (sscanf(verdict->what, "Expecting %31[A-Z_], got event: %31[A-Z_]", wanted, got) == 2)
		bw_error("%s:%u: %s: wants %s, not %s; docs/configuration.md shows the shape", conf->file,
			line, field, in_plain_words(wanted), in_plain_words(got));
	else if (sscanf(verdict->what, "Excessive entries (%u max)", &max) == 1)
		bw_error("%s:%u: %s: more than %u entries; remove some", conf->file, line, field, max);
	else
		bw_error("%s:%u: %s: %s; docs/configuration.md shows the shape", conf->file, line, field,
			verdict->what[0] != '\0' ? verdict->what : cyaml_strerror(error));
	return -EINVAL;
}

static int text_read(const char *path, char **text, size_t *bytes)
{
	FILE *file = fopen(path, "re");
	int error = 0;

	if (file == NULL) {
		error = -errno;
		bw_error("-c: %s: %s; give a YAML file that can be read", path, strerror(-error));
		return error;
	}
	*text = malloc(FILE_BYTES_MAX + 1);
	if (*text == NULL) {
		error = -ENOMEM;
		goto out_close;
	}
	errno = 0;
	*bytes = fread(*text, 1, FILE_BYTES_MAX + 1, file);
	if (ferror(file)) {
		error = errno != 0 ? -errno : -EIO;
		bw_error("-c: %s: %s; give a YAML file that can be read", path, strerror(-error));
	} else if (*bytes > FILE_BYTES_MAX) {
		error = -EINVAL;
		bw_error("-c: %s: larger than %u bytes; give a configuration file", path, FILE_BYTES_MAX);
	}
	if (error != 0)
		free(*text);
out_close:
	fclose(file);
	return error;
}

int bw_control__file_load(struct bw_conf *conf, const char *path)
{
	struct verdict verdict = { 0 };
	const cyaml_config_t config = {
		.log_fn = verdict_note,
		.log_ctx = &verdict,
		.log_level = CYAML_LOG_ERROR,
		.mem_fn = reallocate,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	cyaml_err_t verdict_code;
	void *raw = NULL;
	size_t bytes = 0;
	char *text = NULL;
	int error = text_read(path, &text, &bytes);

	if (error != 0)
		return error;
	conf->file = strdup(path);
	if (conf->file == NULL) {
		error = -ENOMEM;
		goto out_free;
	}
	error = places_read(conf, text, bytes);
	if (error != 0)
		goto out_free;
	verdict_code = cyaml_load_data((const uint8_t *)text, bytes, &config, &top_schema, &raw, NULL);
	if (verdict_code != CYAML_OK) {
		error = verdict_print(conf, &verdict, verdict_code);
	} else if (raw != NULL) { /* an empty file loads as nothing */
		bw_control__raw_free(conf->raw);
		conf->raw = raw;
	}
out_free:
	free(text);
	return error;
}

int bw_control__file_print(const struct bw_raw *raw, FILE *out)
{
	const cyaml_config_t config = {
		.mem_fn = reallocate,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_STYLE_BLOCK,
	};
	char *text = NULL;
	size_t bytes = 0;
	cyaml_err_t code = cyaml_save_data(&text, &bytes, &config, &top_schema, raw, 0);
	int error = 0;

	if (code != CYAML_OK)
		return code == CYAML_ERR_OOM ? -ENOMEM : -EIO;
	if (fwrite(text, 1, bytes, out) != bytes || fflush(out) != 0)
		error = -EIO;
	free(text);
	return error;
}

void bw_control__raw_free(struct bw_raw *raw)
{
	const cyaml_config_t config = { .mem_fn = reallocate };

	if (raw != NULL)
		cyaml_free(&config, &top_schema, raw, 0);
}

static void schema_visit(const cyaml_schema_value_t *schema, const char *path,
	void (*visit)(const char *path, void *arg), void *arg)
{
	char below[PATH_BYTES];

	switch (schema->type) {
	case CYAML_MAPPING:
		for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key != NULL;
			field++) {
			snprintf(
				below, sizeof(below), "%s%s%s", path, path[0] != '\0' ? "." : "", field->key);
			schema_visit(&field->value, below, visit, arg);
		}
		break;
	case CYAML_SEQUENCE:
		snprintf(below, sizeof(below), "%s[]", path);
		schema_visit(schema->sequence.entry, below, visit, arg);
		break;
	default:
		visit(path, arg);
	}
}

void bw_control__keys_visit(void (*visit)(const char *path, void *arg), void *arg)
{
	schema_visit(&top_schema, "", visit, arg);
}
