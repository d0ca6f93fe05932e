/* policy/scalar.c - see scalar.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/scalar.h"

#include <inttypes.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400 * 1000}, {"h", 3600 * 1000}, {"m", 60 * 1000},
    {"s", 1000},         {"ms", 1},          {NULL, 0},
};

/* Larger first, for scalar_show_size. */
static const struct unit sizes[] = {
    {"TiB", 1ull << 40},
    {"TB", 1000ull * 1000 * 1000 * 1000},
    {"GiB", 1 << 30},
    {"GB", 1000 * 1000 * 1000},
    {"MiB", 1 << 20},
    {"MB", 1000 * 1000},
    {"KiB", 1 << 10},
    {"KB", 1000},
    {"B", 1},
    {NULL, 0},
};

/* Takes the digits at the start off *s. */
static enum scalar_result
take_digits(struct slice *s, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < s->len && s->at[i] >= '0' && s->at[i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(s->at[i] - '0');

        if (n > (UINT64_MAX - digit) / 10)
            return SCALAR_ERANGE;
        n = n * 10 + digit;
    }
    if (i == 0)
        return SCALAR_ESYNTAX;
    *s = slice_from(*s, i);
    *ret = n;
    return SCALAR_OK;
}

enum scalar_result
scalar_number(struct slice s, uint64_t *ret)
{
    uint64_t n = 0;
    enum scalar_result r = take_digits(&s, &n);

    if (r == SCALAR_OK && s.len > 0)
        r = SCALAR_ESYNTAX;
    if (r == SCALAR_OK)
        *ret = n;
    return r;
}

/* A number and its unit; bare: the factor without a unit, 0 = it needs one. */
static enum scalar_result
with_unit(struct slice s, const struct unit *unit, uint64_t bare, uint64_t *ret)
{
    uint64_t n = 0, factor = 0;
    enum scalar_result r = take_digits(&s, &n);

    if (r != SCALAR_OK)
        return r;
    if (s.len > 0 && s.at[0] == ' ')
        s = slice_from(s, 1);
    if (s.len == 0)
        factor = n == 0 ? 1 : bare;
    for (; s.len > 0 && unit->name != NULL; unit++)
        if (slice_eq_nocase(s, slice_of(unit->name)))
            factor = unit->factor;
    if (factor == 0)
        return SCALAR_EUNIT;
    if (n > UINT64_MAX / factor)
        return SCALAR_ERANGE;
    *ret = n * factor;
    return SCALAR_OK;
}

enum scalar_result
scalar_duration(struct slice s, uint64_t *ret_ms)
{
    return with_unit(s, durations, 0, ret_ms);
}

enum scalar_result
scalar_size(struct slice s, uint64_t *ret_octets)
{
    return with_unit(s, sizes, 1, ret_octets);
}

enum scalar_result
scalar_percent(struct slice s, uint64_t *ret)
{
    if (s.len > 0 && s.at[s.len - 1] == '%')
        s.len--;
    return scalar_number(s, ret);
}

/* ---- times: RFC 3339 5.6 ---- */

/* Takes exactly so many digits, then `end` unless that is 0, off *s. */
static bool
take_field(struct slice *s, size_t digits, char end, unsigned *ret)
{
    unsigned n = 0;

    if (s->len < digits + (end != 0))
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (s->at[i] < '0' || s->at[i] > '9')
            return false;
        n = n * 10 + (unsigned)(s->at[i] - '0');
    }
    if (end != 0 && s->at[digits] != end)
        return false;
    *s = slice_from(*s, digits + (end != 0));
    *ret = n;
    return true;
}

static bool
take_one_of(struct slice *s, const char *chars, char *ret)
{
    if (s->len == 0 || s->at[0] == '\0' || strchr(chars, s->at[0]) == NULL)
        return false;
    *ret = s->at[0];
    *s = slice_from(*s, 1);
    return true;
}

static bool
skip_fraction(struct slice *s)
{
    size_t i = 1;

    if (s->len == 0 || s->at[0] != '.')
        return true;
    while (i < s->len && s->at[i] >= '0' && s->at[i] <= '9')
        i++;
    *s = slice_from(*s, i);
    return i > 1;
}

static bool
is_leap(unsigned year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days of the years before this one, from the year 0 of the Gregorian
 * calendar, which was a leap year. */
static int64_t
days_before(unsigned year)
{
    unsigned last = year - 1;

    return year == 0
               ? 0
               : 365 * (int64_t)year + last / 4 - last / 100 + last / 400 + 1;
}

static unsigned
days_of_month(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30,
                                         31, 31, 30, 31, 30, 31};

    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* False = there is no such day. */
static bool
day_number(unsigned year, unsigned month, unsigned day, int64_t *ret_days)
{
    int64_t days = days_before(year) - days_before(1970);

    if (month < 1 || month > 12 || day < 1 || day > days_of_month(year, month))
        return false;
    for (unsigned m = 1; m < month; m++)
        days += days_of_month(year, m);
    *ret_days = days + day - 1;
    return true;
}

/* "Z", "+01:00", "-00:30" */
static enum scalar_result
take_offset(struct slice *s, int64_t *ret_s)
{
    unsigned hours = 0, minutes = 0;
    char sign;

    if (!take_one_of(s, "Zz+-", &sign))
        return SCALAR_ESYNTAX;
    if ((sign == '+' || sign == '-') &&
        (!take_field(s, 2, ':', &hours) || !take_field(s, 2, 0, &minutes)))
        return SCALAR_ESYNTAX;
    if (hours > 23 || minutes > 59)
        return SCALAR_ERANGE;
    *ret_s = (int64_t)(hours * 3600 + minutes * 60);
    if (sign == '-')
        *ret_s = -*ret_s;
    return SCALAR_OK;
}

enum scalar_result
scalar_time(struct slice s, int64_t *ret_s)
{
    enum { DAY = 24 * 3600 };
    unsigned year, month, day, hour, minute, second;
    int64_t days = 0, offset = 0, t;
    enum scalar_result r;
    char between;

    if (!take_field(&s, 4, '-', &year) || !take_field(&s, 2, '-', &month) ||
        !take_field(&s, 2, 0, &day) || !take_one_of(&s, "Tt ", &between) ||
        !take_field(&s, 2, ':', &hour) || !take_field(&s, 2, ':', &minute) ||
        !take_field(&s, 2, 0, &second) || !skip_fraction(&s))
        return SCALAR_ESYNTAX;
    r = take_offset(&s, &offset);
    if (r != SCALAR_OK || s.len > 0)
        return r != SCALAR_OK ? r : SCALAR_ESYNTAX;
    if (!day_number(year, month, day, &days) || hour > 23 || minute > 59 ||
        second > 60)
        return SCALAR_ERANGE;
    t = days * DAY + (int64_t)(hour * 3600 + minute * 60 + second) - offset;
    if (second == 60 && t % DAY != 0) /* only at the end of a day of UTC */
        return SCALAR_ERANGE;
    *ret_s = t;
    return SCALAR_OK;
}

static const char *
show(uint64_t n, const struct unit *unit, char ret[SCALAR_TEXT])
{
    while (n % unit->factor != 0)
        unit++;
    snprintf(ret, SCALAR_TEXT, "%" PRIu64 "%s", n / unit->factor, unit->name);
    return ret;
}

const char *
scalar_show_duration(uint64_t ms, char ret[SCALAR_TEXT])
{
    return ms != 0 ? show(ms, durations, ret) : "0s";
}

const char *
scalar_show_size(uint64_t octets, char ret[SCALAR_TEXT])
{
    return octets != 0 ? show(octets, sizes, ret) : "0B";
}
