/* SPDX-License-Identifier: BSD-3-Clause */
#include <base/counters.h>

#define NAME(symbol, name, help) [BW_##symbol] = name,
#define HELP(symbol, name, help) [BW_##symbol] = help,

const char *const bw_counter_name[BW_COUNTER_COUNT] = { BW_COUNTERS(NAME) };
const char *const bw_counter_help[BW_COUNTER_COUNT] = { BW_COUNTERS(HELP) };

#define ONE(symbol, name, help) +1
_Static_assert(0 BW_COUNTERS(ONE) == BW_COUNTER_COUNT, "a name and a text for every counter");
