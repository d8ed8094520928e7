/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Capabilities are a thread's own, and some threads are not ours: EAL's, that of a library. So each is sent a signal,
 * and gives up its own in the handler, as nptl does it for setuid(2).
 *
 * What is kept by root alone is CAP_DAC_READ_SEARCH: documents that are to be served may be in a folder of a user's,
 * which root would otherwise no longer get into. With an access log CAP_DAC_OVERRIDE, too, since a log that was rotated
 * may have become another user's. Whoever has file capabilities keeps nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <base/log.h>

#include "app.h"

#define DROP_SIGNAL (SIGRTMIN + 3)
#define LOOKS       200
#define LOOK_US     1000

static uint64_t kept;
static atomic_uint dropped;

/* Calls nothing that a signal handler may not. */
static void drop_own(int signal_number)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	const int error = errno;

	(void)signal_number;
	for (unsigned i = 0; i < BW_ARRAY_LEN(data); i++)
		data[i].effective = data[i].permitted = (uint32_t)(kept >> 32 * i);
	/* Else a program that root executes would have them all again. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &head, data) == 0)
		atomic_fetch_add(&dropped, 1);
	errno = error;
}

/** What a thread has; the larger of what it may use and what it could. */
static uint64_t held_by(const char *tid)
{
	uint64_t effective = 0, permitted = 0, some;
	char path[64], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", tid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "CapPrm: %" SCNx64, &some) == 1)
			permitted = some;
		if (sscanf(line, "CapEff: %" SCNx64, &some) == 1)
			effective = some;
	}
	if (file != NULL)
		fclose(file);
	return effective | permitted;
}

/** Threads that have more than is kept. Each is asked to drop it. */
static unsigned ask_those_who_hold_more(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.' || (held_by(entry->d_name) & ~kept) == 0)
			continue;
		count++;
		(void)syscall(SYS_tgkill, getpid(), atoi(entry->d_name), DROP_SIGNAL);
	}
	if (tasks != NULL)
		closedir(tasks);
	return count;
}

void bw_app_privileges_drop(bool reopens_files)
{
	struct sigaction action = { .sa_handler = drop_own, .sa_flags = SA_RESTART };
	unsigned left = 1;
	uint64_t own;
	char tid[16];

	snprintf(tid, sizeof(tid), "%d", getpid());
	own = held_by(tid);
	if (geteuid() == 0)
		kept = own & (1ull << CAP_DAC_READ_SEARCH | (reopens_files ? 1ull << CAP_DAC_OVERRIDE : 0));
	sigaction(DROP_SIGNAL, &action, NULL);
	for (unsigned i = 0; i < LOOKS && (left = ask_those_who_hold_more()) > 0; i++)
		usleep(LOOK_US);
	if (left > 0)
		bw_warn("%u thread%s kept the capabilities that only the start needs", left,
			left == 1 ? "" : "s");
	else
		bw_debug("capabilities are dropped, of %u threads", atomic_load(&dropped));
}
