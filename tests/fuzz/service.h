/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * What the targets of services share. An input is a byte of settings, and then either one stream of a client's
 * bytes, which has to be answered the same however it is cut, or a script in which everything else happens.
 */
#pragma once

#include "../service/fake_stream.h"
#include "fuzz.h"

/** Makes a fake with the service under test, and takes it apart, with what it was configured by. */
struct fake *fuzz_service_start(uint8_t settings);
void fuzz_service_stop(struct fake *f);
/** What is true of all that a stream got. @is_whole  nothing was cut off */
void fuzz_service_check(const char *output, size_t len, bool is_whole);
/** Remove what depends on how the bytes came. Returns the new length; 0 where that cannot be told. */
size_t fuzz_service_strip(char *output, size_t len);
/** Are two different answers to the same bytes, cut in two ways, both right? */
bool fuzz_service_may_differ(const char *a, size_t a_len, const char *b, size_t b_len);

void fuzz_service_one(const uint8_t *data, size_t size);
