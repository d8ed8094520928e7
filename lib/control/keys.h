/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * Every key that holds one value, once. From these lists come the fields of the raw structs, the libcyaml schema,
 * and the tables that turn text into the configuration that the other rooms take.
 *
 * X(key, kind, target member, min, max): a key that nobody set keeps the target's default, which the target's own
 * *_conf_init() gave; a default below `min` means that the device or the machine decides, and is not printed.
 */
#pragma once

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SEC BW_NS_PER_SEC
#define MS  BW_NS_PER_MS

/* struct bw_conf_device: the first one's at the top, a further one's in `more_devices`, like the next */
#define DEVICE_KEYS(X)                                                                                       \
	X(device, TEXT, dev, 0, 0)                                                                           \
	X(mtu, NUMBER, mtu, 576, 9000)

/* struct bw_engine_device */
#define LINK_KEYS(X) X(vlan, NUMBER, vlan, 0, 4094)

/* struct bw_engine_device, of a further one: what `exception.tap` is for the first */
#define MORE_DEVICE_KEYS(X) X(exception, TEXT, exception_tap, 0, 0)

/* struct bw_conf_view */
#define TOP_KEYS(X)                                                                                          \
	X(workers, NUMBER, engine.worker_count, 1, BW_WORKERS_MAX)                                           \
	X(poll, POLL, engine.poll, 0, 0)                                                                     \
	X(helpers, NUMBER, engine.helper_count, 1, 16)                                                       \
	X(mbufs, NUMBER, mbufs_per_worker, 1024, 16777216)                                                   \
	X(drain, DURATION, drain_timeout_ns, 0, 3600 * SEC)                                                  \
	X(stats, NUMBER, stats_interval_s, 0, 86400)                                                         \
	X(verbose, BOOL, is_verbose, 0, 1)                                                                   \
	X(cycles, BOOL, engine.counts_cycles, 0, 1)                                                          \
	X(steal, BOOL, engine.steals_ports, 0, 1)

/* struct bw_engine_conf. RFC 791 section 3.2 asks for 15 s of reassembly at least, RFC 8200 4.5 for 60 s at most. */
#define NETWORK_KEYS(X)                                                                                      \
	X(neighbours, NUMBER, neighbours_max, 16, 65534)                                                     \
	X(fragments, NUMBER, fragments_max, 1, 65536)                                                        \
	X(fragment_timeout, DURATION, fragment_timeout_ns, 15 * SEC, 60 * SEC)                               \
	X(icmp_errors, NUMBER, icmp_errors_per_s, 0, 1000000)                                                \
	X(ttl, NUMBER, ttl, 1, 255)                                                                          \
	X(keepalive, DURATION, keepalive_idle_ns, 0, 86400 * SEC)

/* struct bw_conf_view: of one source and a second; 0: no limit */
#define STEER_KEYS(X)                                                                                        \
	X(syns, NUMBER, steer_limits.syns_per_s, 0, 100000000)                                               \
	X(packets, NUMBER, steer_limits.packets_per_s, 0, 100000000)

/* struct bw_engine_conf: in either direction a second; 0: no limit */
#define EXCEPTION_KEYS(X)                                                                                    \
	X(tap, TEXT, devices[0].exception_tap, 0, 0)                                                         \
	X(packets, NUMBER, exception_packets_per_s, 0, 100000000)

/* struct bw_tcp_conf. A window is at most 1 GiB (RFC 7323 section 2.3). */
#define TCP_KEYS(X)                                                                                          \
	X(connections, NUMBER, connections_max, 1, 16777216)                                                 \
	X(half_open, NUMBER, half_open_max, 1, 16777216)                                                     \
	X(syn_cookies, SYN_COOKIES, syn_cookies, 0, 0)                                                       \
	X(time_wait, NUMBER, time_wait_max, 1, 16777216)                                                     \
	X(receive_buffer, BYTES, recv_bytes_max, 4 * KIB, GIB)                                               \
	X(send_buffer, BYTES, send_bytes_max, 4 * KIB, GIB)                                                  \
	X(reassembly, BYTES, reassembly_bytes_max, 4 * KIB, GIB)                                             \
	X(port_first, NUMBER, port_first, 1024, 65535)                                                       \
	X(port_last, NUMBER, port_last, 1024, 65535)                                                         \
	X(mss_min, NUMBER, mss_min, 64, 1460)                                                                \
	X(time_wait_timeout, DURATION, time_wait_ns, 1 * MS, 600 * SEC)                                      \
	X(keepalive_interval, DURATION, keepalive_interval_ns, 1 * SEC, 7200 * SEC)                          \
	X(keepalive_probes, NUMBER, keepalive_probes, 1, 15)                                                 \
	X(user_timeout, DURATION, user_timeout_ns, 1 * SEC, 86400 * SEC)                                     \
	X(ecn, BOOL, ecn, 0, 1)                                                                              \
	X(congestion_control, CONGESTION, congestion_control, BW_TCP_CC_CUBIC, 0)

/* struct bw_engine_service, in every kind of service. Unset, it is that of `tcp`. */
#define SERVICE_KEYS(X)                                                                                      \
	X(congestion_control, CONGESTION, congestion_control, BW_TCP_CC_CUBIC, 0)                            \
	X(nagle, BOOL, nagle, 0, 1)                                                                          \
	X(pacing, BOOL, pacing, 0, 1)                                                                        \
	X(dscp, NUMBER, dscp, 0, 63)                                                                         \
	X(user_timeout, DURATION, user_timeout_ns, 1 * SEC, 86400 * SEC)

/* struct bw_http_conf */
#define HTTP_KEYS(X)                                                                                         \
	X(mime_types, TEXT, mime_types, 0, 0)                                                                \
	X(cache, BYTES, cache_bytes_max, 1 * MIB, 1024 * GIB)                                                \
	X(cache_file_max, BYTES, cache_file_bytes_max, 4 * KIB, 1024 * GIB)                                  \
	X(cache_watches, NUMBER, watches_max, 0, 1000000)                                                    \
	X(request_line, BYTES, request_line_bytes_max, 64, 16 * KIB)                                         \
	X(header_bytes, BYTES, header_bytes_max, 64, 16 * KIB)                                               \
	X(header_count, NUMBER, header_count_max, 1, 1000)                                                   \
	X(body, BYTES, body_bytes_max, 0, 1024 * GIB)                                                        \
	X(pipeline, NUMBER, pipeline_depth_max, 1, 1024)                                                     \
	X(header_timeout, DURATION, header_timeout_ns, 100 * MS, 3600 * SEC)                                 \
	X(body_timeout, DURATION, body_timeout_ns, 100 * MS, 3600 * SEC)                                     \
	X(body_rate, BYTES, body_rate_bytes, 0, GIB)                                                         \
	X(idle_timeout, DURATION, idle_timeout_ns, 100 * MS, 86400 * SEC)                                    \
	X(requests_per_connection, NUMBER, requests_max, 0, 1000000000)                                      \
	X(connections_per_address, NUMBER, per_address_max, 0, 10000)                                        \
	X(access_log, TEXT, access_log, 0, 0)                                                                \
	X(access_log_format, LOG_FORMAT, access_log_format, 0, 0)                                            \
	X(access_log_buffer, BYTES, access_log_bytes_max, 64 * KIB, 16 * GIB)

/* struct bw_http_site: in a service, and in each of its hosts */
#define SITE_KEYS(X)                                                                                         \
	X(root, TEXT, root, 0, 0)                                                                            \
	X(index, TEXT, index, 0, 0)                                                                          \
	X(listing, BOOL, listing, 0, 1)                                                                      \
	X(precompressed, BOOL, precompressed, 0, 1)                                                          \
	X(charset, TEXT, charset, 0, 0)

/* struct bw_http_route, but for `methods` and what `path`, `prefix` and `handler` mean */
#define ROUTE_KEYS(X) X(body, BYTES, body_bytes_max, 1, 1024 * GIB)

/* struct bw_http_constant */
#define CONSTANT_KEYS(X)                                                                                     \
	X(path, TEXT, path, 0, 0)                                                                            \
	X(type, TEXT, content_type, 0, 0)                                                                    \
	X(body, TEXT, body, 0, 0)                                                                            \
	X(status, NUMBER, status, 200, 599)

/* struct bw_http_header */
#define HEADER_KEYS(X)                                                                                       \
	X(name, TEXT, name, 0, 0)                                                                            \
	X(value, TEXT, value, 0, 0)

/* struct bw_http_page */
#define ERROR_PAGE_KEYS(X)                                                                                   \
	X(status, NUMBER, status, 400, 599)                                                                  \
	X(path, TEXT, path, 0, 0)

/* struct bw_resp_conf */
#define RESP_KEYS(X)                                                                                         \
	X(memory, BYTES, memory_bytes_max, 1 * MIB, 1024 * GIB)                                              \
	X(bulk, BYTES, bulk_bytes_max, 1 * KIB, 16 * MIB)                                                    \
	X(args, NUMBER, args_max, 16, 1048576)                                                               \
	X(inline_command, BYTES, inline_bytes_max, 64, 64 * KIB)                                             \
	X(stall_timeout, DURATION, stall_timeout_ns, 100 * MS, 86400 * SEC)                                  \
	X(maxmemory_policy, POLICY, policy, BW_RESP_ALLKEYS_LRU, 0)                                          \
	X(password_file, TEXT, password_file, 0, 0)                                                          \
	X(protected_mode, BOOL, protected_mode, 0, 1)
