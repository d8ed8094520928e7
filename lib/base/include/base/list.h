/* SPDX-License-Identifier: BSD-3-Clause */
/** Intrusive doubly linked list. A link is in at most one list; an unlinked link points at itself. */
#pragma once

#include <base/types.h>

struct bw_link {
	struct bw_link *next, *prev;
};

/** A list is a link that is nobody's member. */
struct bw_list {
	struct bw_link head;
};

static inline void bw_link_init(struct bw_link *link)
{
	link->next = link->prev = link;
}

static inline bool bw_link_is_linked(const struct bw_link *link)
{
	return link->next != link;
}

static inline void bw_list_init(struct bw_list *list)
{
	bw_link_init(&list->head);
}

static inline bool bw_list_is_empty(const struct bw_list *list)
{
	return list->head.next == &list->head;
}

static inline void bw_link_insert(struct bw_link *link, struct bw_link *prev, struct bw_link *next)
{
	link->prev = prev;
	link->next = next;
	prev->next = link;
	next->prev = link;
}

static inline void bw_list_push_back(struct bw_list *list, struct bw_link *link)
{
	bw_link_insert(link, list->head.prev, &list->head);
}

static inline void bw_list_push_front(struct bw_list *list, struct bw_link *link)
{
	bw_link_insert(link, &list->head, list->head.next);
}

/** Unlink; harmless on a link that is in no list. */
static inline void bw_link_remove(struct bw_link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	bw_link_init(link);
}

static inline struct bw_link *bw_list_first(const struct bw_list *list)
{
	return bw_list_is_empty(list) ? NULL : list->head.next;
}

static inline struct bw_link *bw_list_pop_front(struct bw_list *list)
{
	struct bw_link *link = bw_list_first(list);

	if (link != NULL)
		bw_link_remove(link);
	return link;
}

#define BW_LIST_FOREACH(link, list)                                                                          \
	for (struct bw_link *link = (list)->head.next; link != &(list)->head; link = link->next)

/** The body may remove `link`. */
#define BW_LIST_FOREACH_SAFE(link, tmp, list)                                                                \
	for (struct bw_link *link = (list)->head.next, *tmp = link->next; link != &(list)->head;             \
		link = tmp, tmp = tmp->next)
