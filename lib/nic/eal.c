/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting EAL quietly.
 *
 * EAL and its drivers speak through rte_log, which gets a stream of ours, and some libraries under them (libbpf,
 * libxdp) and EAL's usage text through stdout and stderr, which are diverted while those run. All of it goes to
 * the debug log, and the first complaint is kept: when something fails, the first line is the cause and the
 * others are its echoes up the call chain.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include <base/log.h>
#include <nic/nic.h>

#include "internal.h"

#define ARGS_MAX  192 /* PCI devices and their members among them */
#define HEARD_MAX 240

static FILE *log_stream;
static bool has_hugepages;
static char runtime_dir[256];

/* Each thread's own: the driver of one nic may complain on a thread of its own while another is being opened. */
static _Thread_local struct {
	char error[HEARD_MAX], warning[HEARD_MAX];
} heard;

static struct {
	int memory, out, err; /* the diversion, and the real stdout and stderr; -1 when not diverted */
} hush = { -1, -1, -1 };
static pthread_mutex_t hush_lock = PTHREAD_MUTEX_INITIALIZER; /* any thread may have something to say */

/* Complaints about what was not asked for. */
static bool is_noise(const char *line)
{
	static const char *const noise[] = { "hugepages", "VFIO", "telemetry", "TSC",
		"skipping unrecognized" };

	for (unsigned i = 0; i < BW_ARRAY_LEN(noise); i++) {
		if (strstr(line, noise[i]) != NULL)
			return true;
	}
	return false;
}

/* Marks a line in the diversion that came through the log and has been judged by its level. */
#define JUDGED '\x01'

/* One line of DPDK's, without newline. */
static void hear(const char *line, size_t len, uint32_t level)
{
	char *kept = level <= RTE_LOG_ERR ? heard.error : heard.warning;
	const bool is_judged = len > 0 && line[0] == JUDGED;
	char text[HEARD_MAX];
	bool is_hushed;

	line += is_judged;
	len -= is_judged;
	if (len > 5 && memcmp(line, "EAL: ", 5) == 0) {
		line += 5;
		len -= 5;
	}
	snprintf(text, sizeof(text), "%.*s", (int)BW_MIN(len, sizeof(text) - 1), line);
	if (text[0] == '\0')
		return;
	if (!is_judged && level <= RTE_LOG_WARNING && kept[0] == '\0' && !is_noise(text))
		memcpy(kept, text, sizeof(text));
	/* Our own log is diverted as well: it would be heard again. */
	pthread_mutex_lock(&hush_lock);
	is_hushed = hush.memory >= 0;
	if (is_hushed)
		dprintf(hush.memory, "%c%s\n", JUDGED, text);
	pthread_mutex_unlock(&hush_lock);
	if (!is_hushed)
		bw_debug("dpdk: %s", text);
}

static void hear_lines(const char *text, size_t bytes, uint32_t level)
{
	while (bytes > 0) {
		const char *end = memchr(text, '\n', bytes);
		size_t len = end != NULL ? (size_t)(end - text) : bytes;

		hear(text, len, level);
		len += end != NULL;
		text += len;
		bytes -= len;
	}
}

static ssize_t on_log(void *cookie, const char *text, size_t bytes)
{
	hear_lines(text, bytes, (uint32_t)rte_log_cur_msg_loglevel());
	return (ssize_t)bytes;
}

void bw_nic__listen(void)
{
	memset(&heard, 0, sizeof(heard));
}

const char *bw_nic__heard(void)
{
	if (heard.error[0] != '\0')
		return heard.error;
	return heard.warning[0] != '\0' ? heard.warning : "DPDK did not say why";
}

/* EAL may exit() the process: what it said last must not be lost with the diversion. */
static void unhush_at_exit(void)
{
	char text[4096];
	ssize_t bytes;

	if (hush.memory < 0)
		return;
	fflush(stdout);
	bytes = pread(hush.memory, text, sizeof(text), 0);
	if (bytes > 0 && write(hush.err, text, (size_t)bytes) < 0)
		return;
}

void bw_nic__hush(void)
{
	static bool is_registered;
	int memory = memfd_create("barewire", MFD_CLOEXEC);

	if (!is_registered)
		is_registered = atexit(unhush_at_exit) == 0;
	if (memory < 0)
		return;
	fflush(stdout);
	fflush(stderr);
	hush.out = dup(STDOUT_FILENO);
	hush.err = dup(STDERR_FILENO);
	if (hush.out < 0 || hush.err < 0) {
		/* Out of descriptors, or a stream is closed anyway: then it stays as it is. */
		if (hush.out >= 0)
			close(hush.out);
		if (hush.err >= 0)
			close(hush.err);
		close(memory);
		return;
	}
	dup2(memory, STDOUT_FILENO);
	dup2(memory, STDERR_FILENO);
	pthread_mutex_lock(&hush_lock);
	hush.memory = memory;
	pthread_mutex_unlock(&hush_lock);
}

void bw_nic__unhush(void)
{
	char text[16384];
	ssize_t bytes;

	if (hush.memory < 0)
		return;
	fflush(stdout);
	fflush(stderr);
	pthread_mutex_lock(&hush_lock);
	bytes = pread(hush.memory, text, sizeof(text), 0);
	dup2(hush.out, STDOUT_FILENO);
	dup2(hush.err, STDERR_FILENO);
	close(hush.out);
	close(hush.err);
	close(hush.memory);
	hush.memory = -1;
	pthread_mutex_unlock(&hush_lock);
	if (bytes > 0)
		hear_lines(text, (size_t)bytes, RTE_LOG_WARNING);
}

/* Free hugepages of one size, in MiB. */
static unsigned free_hugepages_mib(unsigned page_kib)
{
	char path[96];
	unsigned pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", page_kib);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%u", &pages) != 1)
		pages = 0;
	fclose(f);
	return (unsigned)((uint64_t)pages * page_kib / 1024);
}

/*
 * "0@(1,2,3)": lcore 0 on every CPU that this process may use and no worker is on, or on all when that leaves
 * none. False when it does not fit.
 */
static bool lcores_arg(const struct bw_eal_conf *conf, char *out, size_t out_bytes)
{
	cpu_set_t allowed, rest;
	size_t used = (size_t)snprintf(out, out_bytes, "0@(");

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return false;
	rest = allowed;
	for (unsigned i = 0; i < conf->cpu_count; i++)
		CPU_CLR(conf->cpus[i], &rest);
	if (CPU_COUNT(&rest) == 0)
		rest = allowed;
	for (unsigned cpu = 0; cpu < RTE_MAX_LCORE && used < out_bytes; cpu++) {
		if (CPU_ISSET(cpu, &rest))
			used += (size_t)snprintf(out + used, out_bytes - used, "%u,", cpu);
	}
	if (used >= out_bytes || out[used - 1] != ',')
		return false;
	out[used - 1] = ')';
	return true;
}

/* Did the user give one of these options, as "-m", "-m64" or "--file-prefix=x"? */
static bool user_gave(const struct bw_eal_conf *conf, const char *const *names)
{
	for (unsigned i = 0; i < conf->extra_count; i++) {
		for (const char *const *name = names; *name != NULL; name++) {
			const size_t len = strlen(*name);
			const bool is_long = (*name)[1] == '-';

			if (strncmp(conf->extra[i], *name, len) == 0 &&
				(!is_long || conf->extra[i][len] == '\0' || conf->extra[i][len] == '='))
				return true;
		}
	}
	return false;
}
#define USER_GAVE(conf, ...) user_gave(conf, (const char *const[]){ __VA_ARGS__, NULL })

struct args {
	int count;
	char *argv[ARGS_MAX + 1];
	char text[4096]; /* what was put together for them */
	size_t text_used;
	bool is_full;
};

static void add(struct args *args, const char *arg)
{
	if (args->count == ARGS_MAX) {
		args->is_full = true;
		return;
	}
	args->argv[args->count++] =
		(char *)(uintptr_t)arg; /* getopt reorders, but does not write to the strings */
}

static __attribute__((format(printf, 2, 3))) void addf(struct args *args, const char *format, ...)
{
	char *out = args->text + args->text_used;
	const size_t room = sizeof(args->text) - args->text_used;
	va_list list;
	int len;

	va_start(list, format);
	len = vsnprintf(out, room, format, list);
	va_end(list);
	if (len < 0 || (size_t)len >= room) {
		args->is_full = true;
		return;
	}
	args->text_used += (size_t)len + 1;
	add(args, out);
}

/** What the machine can still give without swapping, in MiB; UINT_MAX where the kernel does not say. */
static unsigned available_mib(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib;
	unsigned mib = UINT_MAX;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			mib = (unsigned)(kib >> 10);
	if (file != NULL)
		fclose(file);
	return mib;
}

/* "--dev a, b" for the error that is about all of them. */
static const char *specs(const struct bw_eal_conf *conf, char *out, size_t out_bytes)
{
	size_t used = 0;

	snprintf(out, out_bytes, "none");
	for (unsigned i = 0; i < conf->plan_count && used < out_bytes; i++)
		used += (size_t)snprintf(
			out + used, out_bytes - used, "%s%s", i > 0 ? ", " : "", conf->plans[i].spec);
	return out;
}

/** Without hugepages all of it is taken at once, and too much of it would have the kernel kill somebody. */
static bool is_too_much(const struct bw_eal_conf *conf)
{
	unsigned available = available_mib();
	char text[512];

	if (has_hugepages || USER_GAVE(conf, "-m", "--socket-mem") || conf->memory_mib <= available)
		return false;
	bw_error(
		"--dev %s: %s packet buffers take %u MiB, and the machine has %u MiB left; give fewer mbufs or workers",
		specs(conf, text, sizeof(text)), conf->plan_count > 1 ? "their" : "its", conf->memory_mib,
		available);
	return true;
}

static void add_memory(struct args *args, const struct bw_eal_conf *conf)
{
	bool is_shared = false;

	/* The peer maps it, and takes few descriptors. */
	for (unsigned i = 0; i < conf->plan_count; i++)
		is_shared |= conf->plans[i].kind == BW_NIC_VIRTIO ||
			     strstr(conf->plans[i].devargs, "zero-copy=yes") != NULL;
	has_hugepages =
		!USER_GAVE(conf, "--no-huge") &&
		free_hugepages_mib(2048) + free_hugepages_mib(1048576) >= BW_MAX(conf->memory_mib, 64u);
	if (is_shared && !USER_GAVE(conf, "--single-file-segments", "--legacy-mem"))
		add(args, "--single-file-segments");
	if (has_hugepages) {
		/* Pages without a file: the kernel takes them back however the process ends. */
		if (!USER_GAVE(conf, "--in-memory", "--huge-dir", "--huge-unlink", "--legacy-mem"))
			add(args, "--in-memory");
		return;
	}
	/* Anonymous memory is as good, but EAL refuses to be told so: "not compatible". */
	if (!USER_GAVE(conf, "--no-shconf"))
		add(args, "--no-shconf");
	if (!USER_GAVE(conf, "--no-huge"))
		add(args, "--no-huge");
	if (!USER_GAVE(conf, "-m", "--socket-mem"))
		addf(args, "-m%u", BW_MAX(conf->memory_mib, 64u));
}

/* Only the PCI devices that were named, or none. */
static void add_devices(struct args *args, const struct bw_eal_conf *conf)
{
	bool has_pci = false;

	for (unsigned i = 0; i < conf->plan_count; i++) {
		const struct bw_nic_plan *plan = &conf->plans[i];

		if (plan->is_pci)
			addf(args, "--allow=%s", plan->devargs);
		has_pci |= plan->is_pci;
		for (unsigned k = 0; k < plan->member_count; k++) {
			if (!bw_nic__is_pci_member(plan, k))
				continue;
			addf(args, "--allow=%s", plan->members[k]);
			has_pci = true;
		}
	}
	if (!has_pci && !USER_GAVE(conf, "-a", "--allow"))
		add(args, "--no-pci");
}

int bw_eal_start(const struct bw_eal_conf *conf)
{
	struct args args = { 0 };
	char lcores[768];
	int rc = bw_nic__plans_meet(conf->plans, conf->plan_count);

	if (rc != 0)
		return rc;
	add(&args, "barewire");
	add_devices(&args, conf);
	if (!USER_GAVE(conf, "--telemetry"))
		add(&args, "--no-telemetry");
	if (!USER_GAVE(conf, "-l", "-c", "-S", "--lcores") && lcores_arg(conf, lcores, sizeof(lcores)))
		addf(&args, "--lcores=%s", lcores);
	if (conf->file_prefix != NULL)
		addf(&args, "--file-prefix=%s", conf->file_prefix);
	else if (!USER_GAVE(conf, "--file-prefix"))
		addf(&args, "--file-prefix=bw%d", (int)getpid());
	add_memory(&args, conf);
	for (unsigned i = 0; i < conf->extra_count; i++)
		add(&args, conf->extra[i]);
	if (args.is_full) {
		bw_error("EAL: too many arguments behind \"--\": at most about %d fit", ARGS_MAX / 2);
		return -E2BIG;
	}
	for (int i = 0; i < args.count; i++)
		bw_debug("EAL argument %d: %s", i, args.argv[i]);

	if (is_too_much(conf))
		return -ENOMEM;
	log_stream = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = on_log });
	if (log_stream == NULL || rte_openlog_stream(log_stream) != 0) {
		bw_error("EAL: no memory for its log");
		rc = -ENOMEM;
		goto close_stream;
	}

	bw_nic__listen();
	bw_nic__hush();
	rc = rte_eal_init(args.count, args.argv);
	bw_nic__unhush();
	snprintf(runtime_dir, sizeof(runtime_dir), "%s", rte_eal_get_runtime_dir());
	if (rc < 0) {
		rc = rte_errno != 0 ? -rte_errno : -EIO;
		bw_error(
			"EAL: %s (%u MiB of memory asked for, %s hugepages); `barewire doctor` looks at the machine",
			bw_nic__heard(), conf->memory_mib, has_hugepages ? "with" : "without");
		goto remove_dir;
	}
	/* EAL makes it even when it shares nothing with other processes. Gone now, gone however this one ends. */
	rmdir(runtime_dir);
	return 0;

remove_dir:
	rmdir(runtime_dir);
	rte_openlog_stream(NULL);
close_stream:
	if (log_stream != NULL)
		fclose(log_stream);
	log_stream = NULL;
	return rc;
}

/*
 * Not rte_eal_cleanup(): in DPDK 22.11 it unmaps EAL's memory under the feet of EAL's interrupt thread, which
 * then ends the process with a SIGSEGV, one time in ten. What it would give back, the end of the process does:
 * the memory has no files, and ports are closed here.
 */
void bw_eal_stop(void)
{
	uint16_t port;

	if (log_stream == NULL)
		return;
	RTE_ETH_FOREACH_DEV(port)
	{
		(void)rte_eth_dev_stop(port);
		(void)rte_eth_dev_close(port);
	}
}

bool bw_eal_has_hugepages(void)
{
	return has_hugepages;
}
