/* SPDX-License-Identifier: BSD-3-Clause */
/** The libcyaml schema of struct bw_raw. Included by file.c alone. */
#pragma once

#include <cyaml/cyaml.h>

#include "internal.h"

/* Every value is loaded as text: values.c reads it, so that a flag and a line of the file are told the same. */
#define SCALAR(structure, key)                                                                               \
	CYAML_FIELD_STRING_PTR(                                                                              \
		#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, structure, key, 0, CYAML_UNLIMITED)
#define LIST(structure, key, entry, max)                                                                     \
	CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, structure, key, entry, 0, max)
#define ENTRY(structure, fields)                                                                             \
	{                                                                                                    \
		CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, structure, fields)                                   \
	}

static const cyaml_schema_value_t text_entry = { CYAML_VALUE_STRING(
	CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED) };

/** Of every service. */
#define LISTEN(structure) SCALAR(structure, port), LIST(structure, addresses, &text_entry, BW_ADDRS_MAX)

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_constant, key),
static const cyaml_schema_field_t constant_fields[] = { CONSTANT_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD
static const cyaml_schema_value_t constant_entry = ENTRY(struct bw_raw_constant, constant_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_header, key),
static const cyaml_schema_field_t header_fields[] = { HEADER_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD
static const cyaml_schema_value_t header_entry = ENTRY(struct bw_raw_header, header_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_error_page, key),
static const cyaml_schema_field_t error_page_fields[] = { ERROR_PAGE_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD
static const cyaml_schema_value_t error_page_entry = ENTRY(struct bw_raw_error_page, error_page_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_handler, key),
static const cyaml_schema_field_t handler_fields[] = {
	SCALAR(struct bw_raw_handler, path),
	SCALAR(struct bw_raw_handler, prefix),
	LIST(struct bw_raw_handler, methods, &text_entry, METHODS_MAX),
	SCALAR(struct bw_raw_handler, handler),
	ROUTE_KEYS(FIELD) CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t handler_entry = ENTRY(struct bw_raw_handler, handler_fields);

/** Of an HTTP service and of each of its hosts. */
#define SITE_LISTS(structure)                                                                                \
	LIST(structure, constants, &constant_entry, CONSTANTS_MAX),                                          \
		LIST(structure, routes, &handler_entry, BW_HTTP_ROUTES_MAX),                                 \
		LIST(structure, headers, &header_entry, HEADERS_MAX),                                        \
		LIST(structure, error_pages, &error_page_entry, ERROR_PAGES_MAX)

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_host, key),
static const cyaml_schema_field_t host_fields[] = {
	LIST(struct bw_raw_host, names, &text_entry, NAMES_MAX),
	SITE_KEYS(FIELD) SITE_LISTS(struct bw_raw_host),
	CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t host_entry = ENTRY(struct bw_raw_host, host_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_http, key),
static const cyaml_schema_field_t http_fields[] = {
	LISTEN(struct bw_raw_http),
	SERVICE_KEYS(FIELD) HTTP_KEYS(FIELD) SITE_KEYS(FIELD) SITE_LISTS(struct bw_raw_http),
	LIST(struct bw_raw_http, hosts, &host_entry, BW_HTTP_HOSTS_MAX),
	CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t http_entry = ENTRY(struct bw_raw_http, http_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_resp, key),
static const cyaml_schema_field_t resp_fields[] = {
	LISTEN(struct bw_raw_resp),
	SERVICE_KEYS(FIELD) RESP_KEYS(FIELD) CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t resp_entry = ENTRY(struct bw_raw_resp, resp_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_plain, key),
static const cyaml_schema_field_t plain_fields[] = {
	LISTEN(struct bw_raw_plain),
	SERVICE_KEYS(FIELD) CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t plain_entry = ENTRY(struct bw_raw_plain, plain_fields);

static const cyaml_schema_field_t route_fields[] = {
	SCALAR(struct bw_raw_route, prefix),
	SCALAR(struct bw_raw_route, gateway),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t route_entry = ENTRY(struct bw_raw_route, route_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_network, key),
static const cyaml_schema_field_t network_fields[] = { NETWORK_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_steer, key),
static const cyaml_schema_field_t steer_fields[] = {
	STEER_KEYS(FIELD) LIST(struct bw_raw_steer, block, &text_entry, RULES_MAX),
	LIST(struct bw_raw_steer, allow, &text_entry, RULES_MAX),
	CYAML_FIELD_END,
};
#undef FIELD

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_exception, key),
static const cyaml_schema_field_t exception_fields[] = { EXCEPTION_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_tcp, key),
static const cyaml_schema_field_t tcp_fields[] = { TCP_KEYS(FIELD) CYAML_FIELD_END };
#undef FIELD

/** Of the first device and of each further one. */
#define DEVICE_LISTS(structure)                                                                              \
	LIST(structure, addresses, &text_entry, BW_ADDRS_MAX), LIST(structure, gateways, &text_entry, 2),    \
		LIST(structure, routes, &route_entry, BW_ROUTES_MAX)

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw_more_device, key),
static const cyaml_schema_field_t more_device_fields[] = {
	DEVICE_KEYS(FIELD) LINK_KEYS(FIELD) SCALAR(struct bw_raw_more_device, mac),
	DEVICE_LISTS(struct bw_raw_more_device),
	MORE_DEVICE_KEYS(FIELD) CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t more_device_entry = ENTRY(struct bw_raw_more_device, more_device_fields);

#define FIELD(key, kind, target, min, max) SCALAR(struct bw_raw, key),
static const cyaml_schema_field_t top_fields[] = {
	DEVICE_KEYS(FIELD) LINK_KEYS(FIELD) TOP_KEYS(FIELD) SCALAR(struct bw_raw, mac),
	SCALAR(struct bw_raw, cpus),
	DEVICE_LISTS(struct bw_raw),
	LIST(struct bw_raw, more_devices, &more_device_entry, MORE_DEVICES_MAX),
	CYAML_FIELD_MAPPING("network", CYAML_FLAG_OPTIONAL, struct bw_raw, network, network_fields),
	CYAML_FIELD_MAPPING("steer", CYAML_FLAG_OPTIONAL, struct bw_raw, steer, steer_fields),
	CYAML_FIELD_MAPPING("exception", CYAML_FLAG_OPTIONAL, struct bw_raw, exception, exception_fields),
	CYAML_FIELD_MAPPING("tcp", CYAML_FLAG_OPTIONAL, struct bw_raw, tcp, tcp_fields),
	LIST(struct bw_raw, http, &http_entry, BW_SERVICES_MAX),
	LIST(struct bw_raw, resp, &resp_entry, BW_SERVICES_MAX),
	LIST(struct bw_raw, echo, &plain_entry, BW_SERVICES_MAX),
	LIST(struct bw_raw, discard, &plain_entry, BW_SERVICES_MAX),
	LIST(struct bw_raw, eal, &text_entry, EAL_ARGS_MAX),
	CYAML_FIELD_END,
};
#undef FIELD
static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_POINTER, struct bw_raw, top_fields) };
