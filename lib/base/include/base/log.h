/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * One line an event, to stderr. Never on the packet path: a packet's outcome is a counter (base/counters.h).
 * bw_error() is for the one line that says what was wrong, where, and what to do.
 */
#pragma once

#include <base/types.h>

enum bw_log_level {
	BW_LOG_ERROR,
	BW_LOG_WARN,
	BW_LOG_INFO,
	BW_LOG_DEBUG,
};

void bw_log_set_level(enum bw_log_level level);
__attribute__((format(printf, 2, 3))) void bw_log(enum bw_log_level level, const char *format, ...);

#define bw_error(...) bw_log(BW_LOG_ERROR, __VA_ARGS__)
#define bw_warn(...)  bw_log(BW_LOG_WARN, __VA_ARGS__)
#define bw_info(...)  bw_log(BW_LOG_INFO, __VA_ARGS__)
#define bw_debug(...) bw_log(BW_LOG_DEBUG, __VA_ARGS__)

/**
 * Log at most once a second for each place in the code, for events that a peer can cause.
 * @now  the turn's time
 */
#define bw_warn_limited(now, ...)                                                                            \
	do {                                                                                                 \
		static __thread bw_ns bw_log_next_at;                                                        \
		if ((now) >= bw_log_next_at) {                                                               \
			bw_log_next_at = (now) + BW_NS_PER_SEC;                                              \
			bw_warn(__VA_ARGS__);                                                                \
		}                                                                                            \
	} while (0)
