/* SPDX-License-Identifier: BSD-3-Clause */
/** Asking a running instance, and what may be wrong with who asks. Both ends are in this process. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/types.h>
#include <control/admin.h>

#include "../nic/capture.h"

static struct bw_admin *admin;
static char path[108];

/* ---- an instance ---------------------------------------------------------------------------------------------- */

static int say_back(void *arg, int argc, char **argv, FILE *out)
{
	assert_string_equal(arg, "argument");
	for (int i = 0; i < argc; i++)
		fprintf(out, "<%s>", argv[i]);
	return 0;
}

static int refuse(void *arg, int argc, char **argv, FILE *out)
{
	fprintf(out, "never %d of these", argc);
	return -EPERM;
}

static int say_much(void *arg, int argc, char **argv, FILE *out)
{
	for (unsigned i = 0; i < 300000; i++)
		fprintf(out, "%u\n", i);
	return 0;
}

/** As it likes, with what it has got. */
static void stay(void *arg, int fd)
{
	(void)arg;
	if (fd < 0)
		return;
	(void)send(fd, "and\0more", 8, MSG_NOSIGNAL);
	close(fd);
}

static const struct bw_admin_command commands[] = {
	{ "back", say_back },
	{ "refuse", refuse },
	{ "much", say_much },
	{ "stay", say_back, stay },
};

static int start(void **state)
{
	admin = bw_admin_start(commands, BW_ARRAY_LEN(commands), (void *)(uintptr_t) "argument");
	snprintf(path, sizeof(path), "/run/barewire/%d.sock", getpid());
	return admin != NULL && access(path, F_OK) == 0 ? 0 : -1;
}

static int stop(void **state)
{
	bw_admin_stop(admin);
	return access(path, F_OK) != 0 ? 0 : -1;
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

static char *answer;
static size_t answer_bytes;

static int ask(int pid, int argc, char **argv)
{
	FILE *out;
	int rc;

	free(answer);
	answer = NULL;
	out = open_memstream(&answer, &answer_bytes);
	rc = bw_admin_ask(pid, argc, argv, out);
	fclose(out);
	return rc;
}

#define ASK(...) ask(getpid(), (int)BW_ARRAY_LEN(((char *[]){ __VA_ARGS__ })), (char *[]){ __VA_ARGS__ })

static void words_arrive_as_they_were(void **state)
{
	assert_int_equal(ASK("back", "one", "", "two words", "\xff\n"), 0);
	assert_string_equal(answer, "<one><><two words><\xff\n>");
	assert_int_equal(ASK("back"), 0);
	assert_string_equal(answer, "");
}

static void a_refusal_is_one_line(void **state)
{
	capture_begin();
	assert_int_equal(ASK("refuse", "a", "b"), 1);
	assert_string_equal(capture_end(), "barewire: error: never 2 of these\n");
	assert_string_equal(answer, "");
	capture_begin();
	assert_int_equal(ASK("unknown"), 1);
	assert_string_equal(capture_end(),
		"barewire: error: unknown: this instance knows no such command; is it of another version?\n");
}

static void long_answers_are_whole(void **state)
{
	assert_int_equal(ASK("much"), 0);
	assert_int_equal(answer_bytes, 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5 + 90000 * 6 + 200000 * 7);
}

static void what_is_kept_goes_on(void **state)
{
	char *words[] = { "stay", "a" }, *text = NULL, rest[9];
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	int fd;

	assert_int_equal(bw_admin_ask_on(getpid(), 2, words, out, &fd), 0);
	fclose(out);
	assert_string_equal(text, "<a>");
	free(text);
	assert_int_equal(recv(fd, rest, sizeof(rest), MSG_WAITALL), 8);
	assert_memory_equal(rest, "and\0more", 8);
	close(fd);
}

static void nobody_to_ask(void **state)
{
	char *words[] = { "back" };

	capture_begin();
	assert_int_equal(ask(1, 1, words), -ENOENT);
	assert_string_equal(capture_end(), "barewire: error: no instance 1 runs that you may ask\n");
}

/* ---- who asks badly ------------------------------------------------------------------------------------------- */

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, path, sizeof(path));
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/** Says that so many bytes come, sends some, ends its side, and gets no answer. */
static void is_left_alone(uint32_t said, const char *bytes, size_t count)
{
	int fd = dial();
	char byte;

	assert_int_equal(send(fd, &said, sizeof(said), 0), sizeof(said));

	for (size_t sent = 0; sent < count;) {
		const ssize_t some = send(fd, bytes + sent, count - sent, MSG_NOSIGNAL);

		if (some <= 0)
			break;
		sent += (size_t)some;
	}
	shutdown(fd, SHUT_WR);
	assert_true(read(fd, &byte, 1) <= 0);
	close(fd);
}

static void requests_that_are_none(void **state)
{
	static char large[3 << 20];

	is_left_alone(0, "", 0);
	is_left_alone(5, "", 0);
	is_left_alone(5, "back", 4);
	is_left_alone(4, "back", 4); /* its last word was cut off */
	is_left_alone(sizeof(large), large, sizeof(large));
	is_left_alone(UINT32_MAX, large, sizeof(large));
	assert_int_equal(ASK("back", "still here"), 0);
	assert_string_equal(answer, "<still here>");
}

static void gone_before_the_answer(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		int fd = dial();

		assert_int_equal(send(fd, i % 2 == 0 ? "\5\0\0\0much" : "\5\0\0\0stay", 9, 0), 9);
		close(fd);
	}
	assert_int_equal(ASK("back", "still here"), 0);
}

/* ---- the place ------------------------------------------------------------------------------------------------ */

static void only_its_user_may_ask(void **state)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(stat("/run/barewire", &status), 0);
	assert_int_equal(status.st_mode & 022, 0);
}

static void what_the_dead_left_is_swept(void **state)
{
	char left[64];
	pid_t child = fork();
	struct bw_admin *other;

	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	snprintf(left, sizeof(left), "/run/barewire/%d.sock", child);
	fclose(fopen(left, "w"));
	child = fork();
	if (child == 0) {
		other = bw_admin_start(commands, BW_ARRAY_LEN(commands), NULL);
		bw_admin_stop(other);
		_exit(other != NULL && access(left, F_OK) != 0 && access(path, F_OK) == 0 ? 0 : 1);
	}

	int status;

	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_arrive_as_they_were),
		cmocka_unit_test(a_refusal_is_one_line),
		cmocka_unit_test(long_answers_are_whole),
		cmocka_unit_test(what_is_kept_goes_on),
		cmocka_unit_test(nobody_to_ask),
		cmocka_unit_test(requests_that_are_none),
		cmocka_unit_test(gone_before_the_answer),
		cmocka_unit_test(only_its_user_may_ask),
		cmocka_unit_test(what_the_dead_left_is_swept),
	};
	int failed = cmocka_run_group_tests(tests, start, stop);

	free(answer);
	return failed;
}
