/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "internal.h"

#define WORD_MAX 32

/** Edits (insert, delete, replace) that turn a into b: Wagner and Fischer, one row. Words are at most WORD_MAX. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1];
	size_t len = strlen(b);

	for (unsigned i = 0; i <= len; i++)
		row[i] = i;
	for (unsigned i = 0; a[i] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = i + 1;
		for (unsigned j = 0; j < len; j++) {
			unsigned replaced = diagonal + (a[i] != b[j]);
			unsigned shorter = BW_MIN(row[j], row[j + 1]) + 1;

			diagonal = row[j + 1];
			row[j + 1] = BW_MIN(replaced, shorter);
		}
	}
	return row[len];
}

const char *bw_control__nearest(const char *word, const char *const *candidates, unsigned count)
{
	const char *best = NULL;
	/* Two slips, or one in three letters: beyond that a suggestion is a guess. */
	unsigned near = BW_MAX(strlen(word) / 3, (size_t)2) + 1;

	if (strlen(word) < 2 || strlen(word) > WORD_MAX)
		return NULL;
	for (unsigned i = 0; i < count; i++) {
		unsigned edits;

		if (strlen(candidates[i]) > WORD_MAX)
			continue;
		edits = distance(word, candidates[i]);
		if (edits < near && edits < strlen(candidates[i])) {
			near = edits;
			best = candidates[i];
		}
	}
	return best;
}
