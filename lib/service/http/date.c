/* SPDX-License-Identifier: BSD-3-Clause */
#include "date.h"

#include <string.h>

static const char day_name[7][4] = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" }; /* 1970-01-01 first */
static const char *const day_long_name[7] = { "Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday",
	"Wednesday" };
static const char month_name[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
	"Nov", "Dec" };

#define DAY_S 86400

/*
 * Civil date to day number and back, in the proleptic Gregorian calendar: years are counted from March, so
 * that the leap day is a year's last and the months' lengths follow (153 m + 2) / 5.
 */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t m = (5 * day_of_year + 2) / 153;

	*day = (unsigned)(day_of_year - (153 * m + 2) / 5 + 1);
	*month = (unsigned)(m < 10 ? m + 3 : m - 9);
	*year = year_of_era + era * 400 + (*month <= 2);
}

static void put_digits(char *out, unsigned value, unsigned digits)
{
	while (digits-- > 0) {
		out[digits] = (char)('0' + value % 10);
		value /= 10;
	}
}

void bw_http__date_format(int64_t unix_s, char out[BW_HTTP__DATE_LEN])
{
	const int64_t first = -62135596800, last = 253402300799; /* 0001-01-01, 9999-12-31T23:59:59 */
	int64_t clamped = BW_MAX(first, BW_MIN(last, unix_s));
	int64_t second = clamped % DAY_S;
	int64_t days, year;
	unsigned month, day;

	if (second < 0)
		second += DAY_S;
	days = (clamped - second) / DAY_S;
	civil_from_days(days, &year, &month, &day);
	memcpy(out, "Thu, 00 Jan 0000 00:00:00 GMT", BW_HTTP__DATE_LEN);
	memcpy(out, day_name[((days % 7) + 7) % 7], 3);
	put_digits(out + 5, day, 2);
	memcpy(out + 8, month_name[month - 1], 3);
	put_digits(out + 12, (unsigned)year, 4);
	put_digits(out + 17, (unsigned)(second / 3600), 2);
	put_digits(out + 20, (unsigned)(second / 60 % 60), 2);
	put_digits(out + 23, (unsigned)(second % 60), 2);
}

/* ---- parsing ---- */

struct text {
	const uint8_t *at, *end;
};

static bool take(struct text *t, const char *literal)
{
	size_t n = strlen(literal);

	if ((size_t)(t->end - t->at) < n || memcmp(t->at, literal, n) != 0)
		return false;
	t->at += n;
	return true;
}

static bool take_digits(struct text *t, unsigned digits, unsigned *value)
{
	*value = 0;
	if ((size_t)(t->end - t->at) < digits)
		return false;
	while (digits-- > 0) {
		unsigned digit = (unsigned)*t->at++ - '0';

		if (digit > 9)
			return false;
		*value = *value * 10 + digit;
	}
	return true;
}

static bool take_month(struct text *t, unsigned *month)
{
	for (unsigned i = 0; i < BW_ARRAY_LEN(month_name); i++) {
		if (take(t, month_name[i])) {
			*month = i + 1;
			return true;
		}
	}
	return false;
}

static bool take_clock(struct text *t, unsigned *second_of_day)
{
	unsigned h, m, s;

	if (!take_digits(t, 2, &h) || !take(t, ":") || !take_digits(t, 2, &m) || !take(t, ":") ||
		!take_digits(t, 2, &s))
		return false;
	if (h > 23 || m > 59 || s > 60) /* 60 is a leap second */
		return false;
	*second_of_day = h * 3600 + m * 60 + s;
	return true;
}

bool bw_http__date_parse(const uint8_t *text, size_t text_len, int64_t now_s, int64_t *unix_s)
{
	static const uint8_t month_days[12] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	struct text t = { text, text + text_len };
	unsigned day, month, year, second_of_day, name;

	for (name = 0; name < 7; name++)
		if (take(&t, day_long_name[name]))
			break;
	if (name < 7) { /* RFC 850: "Sunday, 06-Nov-94 08:49:37 GMT" */
		int64_t now_year;
		unsigned unused;

		if (!take(&t, ", ") || !take_digits(&t, 2, &day) || !take(&t, "-") ||
			!take_month(&t, &month) || !take(&t, "-") || !take_digits(&t, 2, &year) ||
			!take(&t, " ") || !take_clock(&t, &second_of_day) || !take(&t, " GMT"))
			return false;
		/* More than 50 years ahead means the most recent past year of these digits. */
		civil_from_days(now_s / DAY_S, &now_year, &unused, &unused);
		year += (unsigned)(now_year / 100 * 100);
		if (year > now_year + 50)
			year -= 100;
	} else {
		for (name = 0; name < 7; name++)
			if (take(&t, day_name[name]))
				break;
		if (name == 7)
			return false;
		if (take(&t, ", ")) { /* "Sun, 06 Nov 1994 08:49:37 GMT" */
			if (!take_digits(&t, 2, &day) || !take(&t, " ") || !take_month(&t, &month) ||
				!take(&t, " ") || !take_digits(&t, 4, &year) || !take(&t, " ") ||
				!take_clock(&t, &second_of_day) || !take(&t, " GMT"))
				return false;
		} else { /* asctime: "Sun Nov  6 08:49:37 1994" */
			if (!take(&t, " ") || !take_month(&t, &month) || !take(&t, " ") ||
				!(take(&t, " ") ? take_digits(&t, 1, &day) : take_digits(&t, 2, &day)) ||
				!take(&t, " ") || !take_clock(&t, &second_of_day) || !take(&t, " ") ||
				!take_digits(&t, 4, &year))
				return false;
		}
	}
	if (t.at != t.end || day < 1 || day > month_days[month - 1])
		return false;
	*unix_s = days_from_civil(year, month, day) * DAY_S + second_of_day;
	return true;
}
