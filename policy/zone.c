/* policy/zone.c - see zone.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/zone.h"

#include <stdbool.h>

#include "policy/arena.h"
#include "policy/slice.h"

enum {
    DAY_S = 24 * 60 * 60,
    WEEK_S = 7 * DAY_S,
    OFFSET_MAX_S = 26 * 60 * 60, /* RFC 8536 3.2 has a little less */
    RULE_HOURS_MAX = 167,        /* RFC 8536 3.3.1 */
    FILE_OCTETS_MAX = 1 << 20,   /* the largest of tzdata has 4 KB */
    HEADER_OCTETS = 44,
};

/* The calendar repeats, days of the week included. */
static const int64_t ERA_S = (int64_t)146097 * DAY_S;

/* When a year's change is: POSIX's date, and a time of that day. */
struct change {
    enum { CHANGE_JULIAN, CHANGE_DAY, CHANGE_WEEKDAY } kind;
    int day;      /* JULIAN: 1..365, never 29 February; DAY: 0..365;
                  * WEEKDAY: 0 = Sunday */
    int month;    /* WEEKDAY: 1..12 */
    int week;     /* WEEKDAY: 1..5, 5 = the last */
    int32_t at_s; /* of that day's 00:00, on the clock before the change */
};

struct rule_of_years {
    int32_t standard_s, daylight_s; /* east of UTC */
    bool has_daylight;
    struct change to_daylight, to_standard;
};

struct zone {
    size_t n; /* transitions, ascending */
    int64_t *at_s;
    int32_t *offset_s; /* from at_s on, east of UTC */
    int32_t first_s;   /* before all of them */
    bool has_rule;     /* for what comes after all of them */
    struct rule_of_years rule;
};

/* ---- days ---- */

static int64_t
floor_mod(int64_t a, int64_t b)
{
    int64_t r = a % b;

    return r < 0 ? r + b : r;
}

static bool
is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1 January 1970 to that of the year. */
static int64_t
year_start(int year)
{
    int64_t before = year - 1;

    return 365 * before + before / 4 - before / 100 + before / 400 - 719162;
}

/* The day of the year, from 0, on which a month begins. */
static int
month_start(int year, int month)
{
    static const int start[] = {0,   31,  59,  90,  120, 151,
                                181, 212, 243, 273, 304, 334};

    return start[month - 1] + (month > 2 && is_leap(year));
}

static int
month_days(int year, int month)
{
    int next = month < 12 ? month_start(year, month + 1) : 365 + is_leap(year);

    return next - month_start(year, month);
}

/* 1 January 1970 was a Thursday. */
static int
weekday_of(int64_t day)
{
    return (int)floor_mod(day + 4, 7);
}

/* ---- the rule of years ---- */

static int64_t
change_day(const struct change *c, int year)
{
    int64_t start = year_start(year);
    int first, day;

    switch (c->kind) {
    case CHANGE_JULIAN:
        return start + c->day - 1 + (c->day > 59 && is_leap(year));
    case CHANGE_DAY:
        return start + c->day;
    case CHANGE_WEEKDAY:
        break;
    }
    start += month_start(year, c->month);
    first = weekday_of(start);
    day = (c->day - first + 7) % 7 + 7 * (c->week - 1);
    while (day >= month_days(year, c->month))
        day -= 7;
    return start + day;
}

/* Where the change lies in Unix time; the clock before it shows so much. */
static int64_t
change_at(const struct change *c, int year, int32_t before_s)
{
    return change_day(c, year) * DAY_S + c->at_s - before_s;
}

/* now_s: 1970..2369.  A change may lie up to a week outside its year, and one
 * year's end may be the next one's beginning ("all year daylight"): the
 * newest change counts, of two at the same time the one later in the list. */
static int32_t
rule_offset(const struct rule_of_years *r, int64_t now_s)
{
    int year = 1970 + (int)(now_s / (366 * (int64_t)DAY_S));
    int64_t newest = INT64_MIN;
    int32_t offset_s = r->standard_s;

    if (!r->has_daylight)
        return offset_s;
    while (year_start(year + 1) * DAY_S <= now_s)
        year++;
    for (int y = year - 2; y <= year + 1; y++) {
        int64_t on = change_at(&r->to_daylight, y, r->standard_s);
        int64_t off = change_at(&r->to_standard, y, r->daylight_s);

        if (on <= now_s && on >= newest) {
            newest = on;
            offset_s = r->daylight_s;
        }
        if (off <= now_s && off >= newest) {
            newest = off;
            offset_s = r->standard_s;
        }
    }
    return offset_s;
}

static int32_t
offset_at(const struct zone *z, int64_t now_s)
{
    size_t low = 0, high = z->n; /* the first transition after now */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->at_s[middle] <= now_s)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == z->n && z->has_rule)
        return rule_offset(&z->rule, floor_mod(now_s, ERA_S));
    return low == 0 ? z->first_s : z->offset_s[low - 1];
}

struct wall_clock
zone_wall(const struct zone *z, int64_t now_s)
{
    int64_t offset_s = z != NULL ? offset_at(z, now_s) : 0;
    int64_t t = floor_mod(floor_mod(now_s, WEEK_S) + offset_s, WEEK_S);

    return (struct wall_clock){
        .weekday = (unsigned)weekday_of(t / DAY_S),
        .minute = (unsigned)(t % DAY_S / 60),
    };
}

/* ---- the footer: POSIX TZ, as RFC 8536 3.3.1 extends it ---- */

static bool
take_char(struct slice *s, char want)
{
    if (s->len == 0 || s->at[0] != want)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

static bool
take_number(struct slice *s, int max, int *ret)
{
    int n = 0;
    size_t i = 0;

    for (; i < s->len && s->at[i] >= '0' && s->at[i] <= '9'; i++) {
        n = n * 10 + (s->at[i] - '0');
        if (n > max)
            return false;
    }
    *s = slice_from(*s, i);
    *ret = n;
    return i > 0;
}

/* [+-]h[h[h]][:mm[:ss]] */
static bool
take_time(struct slice *s, int hours_max, int32_t *ret_s)
{
    bool negative = take_char(s, '-');
    int h = 0, m = 0, sec = 0;

    if (!negative)
        take_char(s, '+');
    if (!take_number(s, hours_max, &h))
        return false;
    if (take_char(s, ':') && (!take_number(s, 59, &m) ||
                              (take_char(s, ':') && !take_number(s, 59, &sec))))
        return false;
    *ret_s = h * 3600 + m * 60 + sec;
    if (negative)
        *ret_s = -*ret_s;
    return true;
}

static bool
is_letter(char c)
{
    c = slice_lower(c);
    return c >= 'a' && c <= 'z';
}

/* Three letters or more, or anything of letters, digits and signs in <>. */
static bool
take_name(struct slice *s)
{
    bool quoted = take_char(s, '<');
    size_t n = 0;

    while (n < s->len && (is_letter(s->at[n]) ||
                          (quoted && ((s->at[n] >= '0' && s->at[n] <= '9') ||
                                      s->at[n] == '+' || s->at[n] == '-'))))
        n++;
    *s = slice_from(*s, n);
    return n >= 3 && (!quoted || take_char(s, '>'));
}

/* An offset is west of UTC here, and east everywhere else. */
static bool
take_offset(struct slice *s, int32_t *ret_s)
{
    if (!take_time(s, 24, ret_s))
        return false;
    *ret_s = -*ret_s;
    return true;
}

static bool
take_day(struct slice *s, struct change *ret)
{
    if (take_char(s, 'M')) {
        ret->kind = CHANGE_WEEKDAY;
        return take_number(s, 12, &ret->month) && ret->month >= 1 &&
               take_char(s, '.') && take_number(s, 5, &ret->week) &&
               ret->week >= 1 && take_char(s, '.') &&
               take_number(s, 6, &ret->day);
    }
    ret->kind = take_char(s, 'J') ? CHANGE_JULIAN : CHANGE_DAY;
    return take_number(s, 365, &ret->day) &&
           (ret->kind == CHANGE_DAY || ret->day >= 1);
}

static bool
take_change(struct slice *s, struct change *ret)
{
    ret->at_s = 2 * 3600;
    return take_char(s, ',') && take_day(s, ret) &&
           (!take_char(s, '/') || take_time(s, RULE_HOURS_MAX, &ret->at_s));
}

/* std offset [dst [offset] , start , end] */
static bool
read_rule(struct slice s, struct rule_of_years *ret)
{
    if (!take_name(&s) || !take_offset(&s, &ret->standard_s))
        return false;
    if (s.len == 0)
        return true;
    ret->has_daylight = true;
    ret->daylight_s = ret->standard_s + 3600;
    if (!take_name(&s))
        return false;
    if (s.len > 0 && s.at[0] != ',' && !take_offset(&s, &ret->daylight_s))
        return false;
    return take_change(&s, &ret->to_daylight) &&
           take_change(&s, &ret->to_standard) && s.len == 0;
}

/* ---- the file ---- */

static uint64_t
unsigned_at(const char *at, size_t octets)
{
    uint64_t n = 0;

    for (size_t i = 0; i < octets; i++)
        n = n << 8 | (unsigned char)at[i];
    return n;
}

static int32_t
signed32_at(const char *at)
{
    uint32_t n = (uint32_t)unsigned_at(at, 4);

    return n < 0x80000000u ? (int32_t)n : -(int32_t)(UINT32_MAX - n) - 1;
}

static int64_t
signed64_at(const char *at)
{
    uint64_t n = unsigned_at(at, 8);

    return n < (uint64_t)1 << 63 ? (int64_t)n : -(int64_t)(UINT64_MAX - n) - 1;
}

/* A header and its data: RFC 8536 3.1 and 3.2. */
struct block {
    size_t time_octets; /* 4 or 8 */
    uint64_t n_times, n_types, n_leaps;
    uint64_t len; /* of the data */
    const char *data;
};

static const char cut_short[] = "it is cut short";

/* Takes the block off *s; its lengths are sound then. */
static const char *
take_block(struct slice *s, size_t time_octets, struct block *ret)
{
    uint64_t n_chars, n_standards, n_universals;
    const char *at = s->at;

    if (s->len < HEADER_OCTETS || !slice_starts(*s, "TZif"))
        return "it is no TZif file";
    n_universals = unsigned_at(at + 20, 4);
    n_standards = unsigned_at(at + 24, 4);
    ret->n_leaps = unsigned_at(at + 28, 4);
    ret->n_times = unsigned_at(at + 32, 4);
    ret->n_types = unsigned_at(at + 36, 4);
    n_chars = unsigned_at(at + 40, 4);
    ret->time_octets = time_octets;
    ret->len = ret->n_times * (time_octets + 1) + ret->n_types * 6 + n_chars +
               ret->n_leaps * (time_octets + 4) + n_standards + n_universals;
    *s = slice_from(*s, HEADER_OCTETS);
    if (ret->len > s->len)
        return cut_short;
    ret->data = s->at;
    *s = slice_from(*s, (size_t)ret->len);
    return NULL;
}

static const char *
read_times(const struct block *b, struct zone *ret)
{
    size_t n = (size_t)b->n_times;
    const char *which = b->data + n * b->time_octets, *type = which + n;

    for (uint64_t i = 0; i < b->n_types; i++) {
        int32_t offset_s = signed32_at(type + 6 * i);

        if (offset_s < -OFFSET_MAX_S || offset_s > OFFSET_MAX_S)
            return "its clock is more than 26 hours off UTC";
    }
    ret->first_s = signed32_at(type);
    for (size_t i = 0; i < n; i++) {
        unsigned char k = (unsigned char)which[i];

        if (k >= b->n_types)
            return "it names a kind of time that it does not have";
        ret->offset_s[i] = signed32_at(type + 6 * (size_t)k);
        ret->at_s[i] = b->time_octets == 8 ? signed64_at(b->data + 8 * i)
                                           : signed32_at(b->data + 4 * i);
        if (i > 0 && ret->at_s[i] <= ret->at_s[i - 1])
            return "its times are not in order";
    }
    ret->n = n;
    return NULL;
}

static const char *
read_footer(struct slice s, struct zone *ret)
{
    const char *end;

    if (!take_char(&s, '\n'))
        return cut_short;
    end = s.len > 0 ? memchr(s.at, '\n', s.len) : NULL;
    if (end == NULL)
        return cut_short;
    s.len = (size_t)(end - s.at);
    ret->has_rule = s.len > 0;
    if (ret->has_rule && !read_rule(s, &ret->rule))
        return "the rule at its end cannot be read";
    return NULL;
}

/* From version 2 on a second block, with times of 64 bits, and a footer
 * follow the first. */
static const char *
take_last_block(struct slice *s, bool *ret_footer, struct block *ret)
{
    char version = s->len > 4 ? s->at[4] : '\0';
    const char *error = take_block(s, 4, ret);

    *ret_footer = version >= '2';
    if (error == NULL && *ret_footer)
        error = take_block(s, 8, ret);
    else if (error == NULL && version != '\0')
        return "its version is not known";
    if (error == NULL && ret->n_types == 0)
        return "it has no kind of time";
    if (error == NULL && ret->n_leaps > 0)
        return "it counts leap seconds, which Unix time does not";
    return error;
}

const struct zone *
zone_read(struct arena *a, const char *tzif, size_t len, const char **ret_error)
{
    struct slice s = {tzif, len};
    struct zone *z;
    struct block b;
    bool footer;

    *ret_error = len > FILE_OCTETS_MAX ? "it is larger than 1 MiB"
                                       : take_last_block(&s, &footer, &b);
    if (*ret_error != NULL)
        return NULL;
    z = arena_alloc(a, 1, sizeof *z);
    if (z == NULL)
        return NULL;
    z->at_s = arena_alloc(a, (size_t)b.n_times, sizeof *z->at_s);
    z->offset_s = arena_alloc(a, (size_t)b.n_times, sizeof *z->offset_s);
    if (z->at_s == NULL || z->offset_s == NULL)
        return NULL;
    *ret_error = read_times(&b, z);
    if (*ret_error == NULL && footer)
        *ret_error = read_footer(s, z);
    return *ret_error == NULL ? z : NULL;
}
