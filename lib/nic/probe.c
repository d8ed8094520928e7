/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices come and go one at a time.
 *
 * EAL keeps a list of what it was told of devices, without a lock, and several threads come to it: the one that opens and
 * closes nics, and one of each virtio: nic (virtio.c). The latter's driver waits for its peer while it is probed, for as
 * long as the peer likes, so the lock is given back meanwhile: from where the driver has its port on, it touches that list
 * no more, unless it fails, and then it gives its port back first. To see both, the two functions are defined here: the
 * driver is a plugin, and finds what the executable has before what the libraries have.
 */
#include <dlfcn.h>
#include <pthread.h>

#include <rte_dev.h>

#include <base/assert.h>

#include "internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool may_wait, has_lock;

static void take(void)
{
	pthread_mutex_lock(&lock);
	has_lock = true;
}

static void give(void)
{
	has_lock = false;
	pthread_mutex_unlock(&lock);
}

/* Of ethdev's header for drivers, which is not for applications. */
struct rte_eth_dev;
struct rte_eth_dev *rte_eth_dev_allocate(const char *name);
int rte_eth_dev_release_port(struct rte_eth_dev *dev);

__attribute__((used)) struct rte_eth_dev *rte_eth_dev_allocate(const char *name)
{
	struct rte_eth_dev *(*next)(const char *);
	struct rte_eth_dev *dev;

	*(void **)&next = dlsym(RTLD_NEXT, "rte_eth_dev_allocate");
	BW_ASSERT(next != NULL);
	dev = next(name);
	if (may_wait && has_lock)
		give();
	return dev;
}

__attribute__((used)) int rte_eth_dev_release_port(struct rte_eth_dev *dev)
{
	int (*next)(struct rte_eth_dev *);

	*(void **)&next = dlsym(RTLD_NEXT, "rte_eth_dev_release_port");
	BW_ASSERT(next != NULL);
	if (may_wait && !has_lock)
		take();
	return next(dev);
}

int bw_nic__probe(const char *devargs, const char *name, bool waits, uint16_t *port_id)
{
	int rc;

	take();
	may_wait = waits;
	rc = rte_dev_probe(devargs);
	may_wait = false;
	if (has_lock)
		give();
	return rc == 0 ? rte_eth_dev_get_port_by_name(name, port_id) : rc;
}

void bw_nic__remove(struct rte_device *device)
{
	take();
	(void)rte_dev_remove(device);
	give();
}
