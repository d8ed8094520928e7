/* SPDX-License-Identifier: BSD-3-Clause */
/** Create, configure, listen, destroy. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#define BUFFER_BYTES_MAX     (1u << 30) /* a little more than the largest window (RFC 7323 2.3) */
#define BUFFER_BYTES_DEFAULT (256u << 10)
#define STATE_BYTES_MAX      65536u
#define MTU_MIN              256

void bw_tcp_conf_init(struct bw_tcp_conf *conf)
{
	*conf = (struct bw_tcp_conf){
		.connections_max = 65536,
		.half_open_max = 16384,
		.time_wait_max = 65536,
		.recv_bytes_max = BUFFER_BYTES_DEFAULT,
		.send_bytes_max = BUFFER_BYTES_DEFAULT,
		.mtu = 1500,
		.mss_min = 536,
		.ecn = true,
		.congestion_control = BW_TCP_CC_CUBIC,
		.time_wait_ns = 60 * BW_NS_PER_SEC,
		.keepalive_interval_ns = 75 * BW_NS_PER_SEC,
		.keepalive_probes = 9,
		.user_timeout_ns = 924600 * BW_NS_PER_MS,
		.port_first = 1024,
		.port_last = 65535,
	};
}

void bw_tcp__set_now(struct bw_tcp *tcp, bw_ns now)
{
	uint64_t since, ms;

	/* What lies farther back than half of 32 bits would look as if it were to come. */
	if (bw_unlikely(now - tcp->now > BW_TCP__JUMP_MAX_NS))
		tcp->epoch += now - tcp->now - BW_TCP__JUMP_MAX_NS;
	since = now - tcp->epoch;
	ms = since / BW_NS_PER_MS;
	tcp->now = now;
	tcp->now_ms = (uint32_t)ms;
	tcp->now_ms_up = (uint32_t)(ms + (since != ms * BW_NS_PER_MS));
}

static void slab_init(struct bw_tcp__slab *slab, uint32_t capacity)
{
	*slab = (struct bw_tcp__slab){ .capacity = capacity, .free_head = BW_TCP__NONE };
}

static bool is_timer_span(bw_ns span)
{
	/* Deadlines are compared in 31 bits of milliseconds. */
	return span >= BW_NS_PER_MS && span <= 20ull * 24 * 3600 * BW_NS_PER_SEC;
}

static bool is_valid(const struct bw_tcp_conf *conf)
{
	return conf->connections_max >= 1 && conf->connections_max <= BW_TCP__CONNS_MAX &&
	       conf->half_open_max <= BW_TCP__INDEX_MAX && conf->time_wait_max <= BW_TCP__INDEX_MAX &&
	       conf->state_bytes <= STATE_BYTES_MAX && conf->recv_bytes_max <= BUFFER_BYTES_MAX &&
	       conf->send_bytes_max <= BUFFER_BYTES_MAX && conf->reassembly_bytes_max <= BUFFER_BYTES_MAX &&
	       conf->mtu >= MTU_MIN && conf->mss_min >= BW_TCP__MSS_LEAST &&
	       is_timer_span(conf->time_wait_ns) && is_timer_span(conf->keepalive_interval_ns) &&
	       conf->keepalive_probes <= 15 && is_timer_span(conf->user_timeout_ns) &&
	       conf->congestion_control != BW_TCP_CC_DEFAULT && conf->congestion_control < BW_TCP_CC_COUNT &&
	       conf->pool != NULL && conf->counters != NULL &&
	       rte_pktmbuf_priv_size(conf->pool) >= BW_MBUF_PRIV_BYTES &&
	       rte_pktmbuf_data_room_size(conf->pool) >= RTE_PKTMBUF_HEADROOM + BW_TCP_RESERVE_MAX;
}

/** Place an array behind the others, on a page of its own. Returns its offset. */
static size_t place(size_t *end, uint64_t count, size_t object_bytes)
{
	size_t at = *end;

	*end = (at + count * object_bytes + 4095) & ~(size_t)4095;
	return at;
}

struct bw_tcp *bw_tcp_create(const struct bw_tcp_conf *conf, bw_ns now)
{
	size_t end = 0, colds, states, rares, pace_at, half_opens, time_waits, reassemblies, recoveries,
	       hystarts;
	uint32_t state_stride;
	struct bw_tcp *tcp;
	uint8_t *map;

	if (!is_valid(conf)) {
		errno = EINVAL;
		return NULL;
	}
	state_stride = (conf->state_bytes + 15u) & ~15u;
	(void)place(&end, 1, sizeof(*tcp) + (size_t)conf->connections_max * sizeof(tcp->conns[0]));
	colds = place(&end, conf->connections_max, sizeof(*tcp->colds));
	states = place(&end, conf->connections_max, state_stride);
	rares = place(&end, conf->connections_max, sizeof(*tcp->rares));
	pace_at = place(&end, conf->connections_max, sizeof(*tcp->pace_at));
	half_opens = place(&end, conf->half_open_max, sizeof(*tcp->half_opens));
	time_waits = place(&end, conf->time_wait_max, sizeof(*tcp->time_waits));
	reassemblies = place(&end, conf->connections_max, sizeof(*tcp->reassemblies));
	recoveries = place(&end, conf->connections_max, sizeof(*tcp->recoveries));
	hystarts = place(&end, conf->connections_max, sizeof(*tcp->hystarts));
	map = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		errno = ENOMEM;
		return NULL;
	}
	tcp = (struct bw_tcp *)map;
	if (bw_tcp__table_init(&tcp->table,
		    (uint64_t)conf->connections_max + conf->half_open_max + conf->time_wait_max) != 0) {
		munmap(map, end);
		errno = ENOMEM;
		return NULL;
	}
	tcp->map_bytes = end;
	tcp->colds = (struct bw_tcp__cold *)(map + colds);
	tcp->rares = (struct bw_tcp__rare *)(map + rares);
	tcp->states = map + states;
	tcp->state_stride = state_stride;
	tcp->pace_at = (uint32_t *)(map + pace_at);
	tcp->half_opens = (struct bw_tcp__half_open *)(map + half_opens);
	tcp->time_waits = (struct bw_tcp__time_wait *)(map + time_waits);
	tcp->reassemblies = (struct bw_tcp__reassembly *)(map + reassemblies);
	tcp->recoveries = (struct bw_tcp__recovery *)(map + recoveries);
	tcp->hystarts = (struct bw_tcp__hystart *)(map + hystarts);

	tcp->conf = *conf;
	if (tcp->conf.recv_bytes_max == 0)
		tcp->conf.recv_bytes_max = BUFFER_BYTES_DEFAULT;
	if (tcp->conf.send_bytes_max == 0)
		tcp->conf.send_bytes_max = BUFFER_BYTES_DEFAULT;
	tcp->counters = conf->counters;
	tcp->payload_room = rte_pktmbuf_data_room_size(conf->pool) - RTE_PKTMBUF_HEADROOM;
	slab_init(&tcp->conn_slab, conf->connections_max);
	slab_init(&tcp->half_open_slab, conf->half_open_max);
	slab_init(&tcp->time_wait_slab, conf->time_wait_max);
	slab_init(&tcp->reassembly_slab, conf->connections_max);
	slab_init(&tcp->recovery_slab, conf->connections_max);
	tcp->ready_head = tcp->ready_tail = tcp->pending_head = tcp->pending_tail = BW_TCP__NONE;
	tcp->waiting_head = tcp->waiting_tail = BW_TCP__NONE;
	tcp->to_send.left = UINT32_MAX;
	tcp->to_receive = &tcp->to_send;
	for (unsigned i = 0; i <= BW_TCP__SYN_ACK_RETRIES; i++)
		tcp->half_open_fifo[i] = (struct bw_tcp__fifo){ BW_TCP__NONE, BW_TCP__NONE };
	tcp->time_wait_fifo = (struct bw_tcp__fifo){ BW_TCP__NONE, BW_TCP__NONE };
	bw_wheel_init(&tcp->wheel, now);
	bw_timer_init(&tcp->half_open_timer, BW_TCP_WHEEL_HALF_OPEN);
	bw_timer_init(&tcp->time_wait_timer, BW_TCP_WHEEL_TIME_WAIT);
	tcp->epoch = tcp->now = now;
	bw_tcp__set_now(tcp, now);
	return tcp;
}

void bw_tcp_destroy(struct bw_tcp *tcp)
{
	if (tcp == NULL)
		return;
	for (uint32_t i = 0; i < tcp->conn_slab.touched; i++) {
		if (tcp->colds[i].generation & 1)
			bw_tcp__conn_end(tcp, &tcp->conns[i], BW_TCP_END_ABORTED);
	}
	for (; tcp->answer_count != 0; tcp->answer_count--) {
		rte_pktmbuf_free(tcp->answers[tcp->answer_head].m);
		tcp->answer_head = (tcp->answer_head + 1) % BW_TCP__ANSWERS_MAX;
	}
	bw_tcp__table_fini(&tcp->table);
	munmap(tcp, tcp->map_bytes);
}

static bool accepts_on(const struct bw_tcp_listener *listener, const struct bw_ip *addr)
{
	for (unsigned i = 0; i < listener->addr_count; i++) {
		if (bw_ip_eq(&listener->addrs[i], addr))
			return true;
	}
	return listener->addr_count == 0;
}

/** Is there an address that both this one and one that is open accept on? */
static bool overlaps(const struct bw_tcp *tcp, const struct bw_tcp_listener *listener)
{
	uint16_t port_be = __builtin_bswap16(listener->port);

	for (unsigned i = 0; i < tcp->listener_count; i++) {
		const struct bw_tcp_listener *other = &tcp->listeners[i];

		if (tcp->listener_port[i] != port_be || !tcp->listener_is_open[i])
			continue;
		if (listener->addr_count == 0)
			return true;
		for (unsigned k = 0; k < listener->addr_count; k++) {
			if (accepts_on(other, &listener->addrs[k]))
				return true;
		}
	}
	return false;
}

int bw_tcp_listen(struct bw_tcp *tcp, const struct bw_tcp_listener *listener)
{
	struct bw_tcp_listener *copy = &tcp->listeners[tcp->listener_count];

	if (listener->ops == NULL || listener->dscp > 63 || listener->recv_bytes_max > BUFFER_BYTES_MAX ||
		listener->send_bytes_max > BUFFER_BYTES_MAX ||
		listener->congestion_control >= BW_TCP_CC_COUNT ||
		(listener->keepalive_idle_ns != 0 && !is_timer_span(listener->keepalive_idle_ns)) ||
		(listener->user_timeout_ns != 0 && !is_timer_span(listener->user_timeout_ns)))
		return -EINVAL;
	if (listener->port != 0 && overlaps(tcp, listener))
		return -EADDRINUSE;
	if (tcp->listener_count == BW_TCP__LISTENERS_MAX)
		return -ENOSPC;
	*copy = *listener;
	if (copy->recv_bytes_max == 0)
		copy->recv_bytes_max = tcp->conf.recv_bytes_max;
	if (copy->send_bytes_max == 0)
		copy->send_bytes_max = tcp->conf.send_bytes_max;
	if (copy->user_timeout_ns == 0)
		copy->user_timeout_ns = tcp->conf.user_timeout_ns;
	if (copy->congestion_control == BW_TCP_CC_DEFAULT)
		copy->congestion_control = tcp->conf.congestion_control;
	tcp->listener_port[tcp->listener_count] = __builtin_bswap16(listener->port);
	tcp->listener_is_open[tcp->listener_count] = listener->port != 0;
	tcp->announces |= listener->prefetch != NULL;
	return (int)tcp->listener_count++;
}

bool bw_tcp_is_listening(const struct bw_tcp *tcp, uint16_t port)
{
	return overlaps(tcp, &(struct bw_tcp_listener){ .port = port });
}

int bw_tcp__listener_find(const struct bw_tcp *tcp, const struct bw_flow *flow, bool is_open)
{
	/* Of those that were closed the latest. */
	for (unsigned i = tcp->listener_count; i-- > 0;) {
		if (tcp->listener_port[i] == flow->local_port_be && tcp->listener_is_open[i] >= is_open &&
			accepts_on(&tcp->listeners[i], &flow->local))
			return (int)i;
	}
	return -1;
}

void bw_tcp_unlisten_all(struct bw_tcp *tcp)
{
	/* Connections name their listener, so its slot stays; so do handshakes that have begun. */
	for (unsigned i = 0; i < tcp->listener_count; i++)
		tcp->listener_is_open[i] = false;
}

void bw_tcp_stats(const struct bw_tcp *tcp, struct bw_tcp_stats *stats)
{
	*stats = (struct bw_tcp_stats){
		.connections = tcp->conn_slab.count,
		.half_open = tcp->half_open_slab.count,
		.time_wait = tcp->time_wait_slab.count,
	};
}

uint16_t bw_tcp__mss_option(const struct bw_tcp *tcp, const struct bw_flow *flow)
{
	/* RFC 6691: the MTU less the fixed headers; options are the sender's business. */
	return bw_tcp__mtu(tcp, &flow->local) - (bw_ip_is_v4(&flow->local) ? 40 : 60);
}

uint8_t bw_tcp__wscale_for(uint32_t bytes)
{
	uint8_t scale = 0;

	while (scale < 14 && bytes >> scale > 65535)
		scale++;
	return scale;
}
