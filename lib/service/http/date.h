/* SPDX-License-Identifier: BSD-3-Clause */
/** HTTP dates (RFC 9110 section 5.6.7). Pure: no locale, no time zone, no clock. */
#pragma once

#include <base/types.h>

#define BW_HTTP__DATE_LEN 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/** Seconds since 1970 as an IMF-fixdate; not terminated. Clamped to the years 1 to 9999. */
void bw_http__date_format(int64_t unix_s, char out[BW_HTTP__DATE_LEN]);
/**
 * All three forms that a recipient must accept: IMF-fixdate, RFC 850 and asctime.
 *
 * @now_s  decides the century of RFC 850's two-digit year: at most 50 years ahead
 */
bool bw_http__date_parse(const uint8_t *text, size_t text_len, int64_t now_s, int64_t *unix_s);
