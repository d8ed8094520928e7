/* SPDX-License-Identifier: BSD-3-Clause */
/** Feeds files, and those of folders, to a target. The last name that was printed is that of one which fails. */
#include <dirent.h>
#include <stdio.h>

#include "fuzz.h"

static unsigned count;

static void feed(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *bytes = NULL;
	size_t len = 0;

	BW_ASSERT(file != NULL);
	printf("%s\n", path);
	fflush(stdout);
	BW_ASSERT(fseek(file, 0, SEEK_END) == 0);
	len = (size_t)ftell(file);
	rewind(file);
	bytes = malloc(len);
	BW_ASSERT(bytes != NULL || len == 0);
	BW_ASSERT(fread(bytes, 1, len, file) == len);
	fclose(file);
	LLVMFuzzerTestOneInput(bytes, len);
	free(bytes);
	count++;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void feed_folder(const char *path)
{
	struct dirent **entries;
	int entry_count = scandir(path, &entries, is_visible, alphasort);

	if (entry_count < 0) {
		feed(path);
		return;
	}
	for (int i = 0; i < entry_count; i++) {
		char *name = NULL;

		BW_ASSERT(asprintf(&name, "%s/%s", path, entries[i]->d_name) > 0);
		feed(name);
		free(name);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	BW_ASSERT_EQ(LLVMFuzzerInitialize(&argc, &argv), 0);
	/* What every corpus has: nothing at all. */
	LLVMFuzzerTestOneInput(NULL, 0);
	for (int i = 1; i < argc; i++)
		feed_folder(argv[i]);
	printf("%u inputs\n", count);
	return count > 0 ? 0 : 1;
}
