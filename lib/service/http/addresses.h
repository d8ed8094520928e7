/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * How many connections each client address has, over all workers: an IPv4 address, or the /64 of an IPv6 one, which is
 * what one client is given. Touched when a connection opens and closes, never in between. Lock-free.
 */
#pragma once

#include <base/addr.h>

struct bw_http__addresses;

/** More at a time cannot be told apart; see BW_HTTP__ADDRESS_UNCOUNTED. */
#define BW_HTTP__PER_ADDRESS_MAX 10000

enum bw_http__address {
	BW_HTTP__ADDRESS_COUNTED,
	BW_HTTP__ADDRESS_REFUSED,   /* it has its `max` already */
	BW_HTTP__ADDRESS_UNCOUNTED, /* no room to count it, beside more than 250,000 others. It is let in */
};

/** NULL: no memory. `max` is 1 to BW_HTTP__PER_ADDRESS_MAX. */
struct bw_http__addresses *bw_http__addresses_create(uint32_t max);
void bw_http__addresses_free(struct bw_http__addresses *addresses);
/** Any worker. Exact: never more than `max` are counted at a time. Two that come at once may both be refused the last. */
enum bw_http__address bw_http__addresses_enter(struct bw_http__addresses *addresses, const struct bw_ip *ip);
/** Any worker, once for each BW_HTTP__ADDRESS_COUNTED. */
void bw_http__addresses_leave(struct bw_http__addresses *addresses, const struct bw_ip *ip);
