/* SPDX-License-Identifier: BSD-3-Clause */
/** What the files of this room share, and its tests look at. */
#pragma once

#include <steer/steer.h>

/** Load the programs of a hook without attaching them. 0, or -errno after one line. */
int bw_steer__load(const struct bw_steer_conf *conf, struct bw_steer **steer);
/** The one that an interface would get: XDP's, or tc's. */
int bw_steer__program(const struct bw_steer *steer);
