/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What the targets of services share. An input is a byte of settings, and then either one stream of a client's
 * bytes, which has to be answered the same however it is cut and whatever is late, or a script in which everything
 * else happens. The client's bytes are the input's, or requests that the target composes by them, so that what is
 * searched are sequences of requests, not their spelling.
 */
#pragma once

#include "../service/fake_stream.h"
#include "fuzz.h"

/** In the settings: a script follows. The lowest five bits are the target's. */
#define FUZZ_IS_SCRIPT 0x80

/** Makes a fake with the service under test, and takes it apart, with what it was configured by. */
struct fake *fuzz_service_start(uint8_t settings);
void fuzz_service_stop(struct fake *f);
/** What is true of all that a stream got. @is_whole  nothing was cut off */
void fuzz_service_check(const char *output, size_t len, bool is_whole);
/** Remove what depends on how the bytes came. Returns the new length; 0 where that cannot be told. */
size_t fuzz_service_strip(char *output, size_t len);
/** Are two different answers to the same bytes, cut in two ways, both right? */
bool fuzz_service_may_differ(const char *a, size_t a_len, const char *b, size_t b_len);

/** Does the answer tell the time, or depend on it? Then none may pass. */
bool fuzz_service_is_timed(const char *text, size_t len);

struct fuzz_text {
	size_t len;
	char bytes[1 << 16];
};

/** Appends what fits. */
void fuzz_put(struct fuzz_text *text, const void *bytes, size_t len);
void fuzz_printf(struct fuzz_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** One request, right or nearly so. Takes a byte of the input at least, while there is one. */
void fuzz_service_compose(struct fuzz_input *in, struct fuzz_text *text);

void fuzz_service_one(const uint8_t *data, size_t size);
