/* policy/compile_time.c - `time` and `timezone`.
 * SPDX-License-Identifier: Apache-2.0
 *
 *     mon-fri 08:00-18:00    days and hours; the end is exclusive
 *     sat,sun                whole days
 *     fri-mon                over the end of the week
 *     22:00-06:00            every day; into the next one, which need not be
 *                            a day of its own
 *
 * What the clock on the wall shows counts: an hour that is skipped when the
 * clocks change never comes, one that is repeated comes twice.
 */
#include "policy/compile.h"

#include "policy/zone.h"

enum { MINUTES = 24 * 60, ZONE_NAME_MAX = 100 };

struct named_zone {
    const char *name;        /* as it is shown */
    const struct zone *zone; /* NULL = UTC, or not read: see error */
    const char *error;       /* a sentence; NULL = good */
};

/* ---- zones ---- */

static const char zone_form[] =
    "the name of a time zone, such as Europe/Berlin or UTC";

/* Nothing that leaves the directory: no dot is in any name. */
static bool
is_zone_name(struct slice s)
{
    char before = '/';

    if (s.len == 0 || s.len > ZONE_NAME_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char l = slice_lower(s.at[i]);

        if (!(l >= 'a' && l <= 'z') && !(l >= '0' && l <= '9') && l != '_' &&
            l != '-' && l != '+' && (l != '/' || before == '/'))
            return false;
        before = l;
    }
    return before != '/';
}

/* Reads a zone's file; what is wrong with it becomes z->error.  False = out
 * of memory. */
static bool
load_zone(struct compile *c, const char *path, struct named_zone *z)
{
    const char *text = NULL, *why = NULL;
    char err[100] = "";
    size_t len = 0;

    if (c->files == NULL || c->files->read_file == NULL) {
        why = "files cannot be read here";
    } else if (c->files->read_file(c->files->cookie, path, &text, &len, err,
                                   sizeof err)) {
        z->zone = zone_read(c->arena, text, len, &why);
        if (z->zone != NULL)
            return true;
        if (why == NULL)
            return compile_nomem(c);
    }
    z->error =
        arena_printf(c->scratch, "%s: %s", path, why != NULL ? why : err);
    return z->error != NULL || compile_nomem(c);
}

/* NULL: out of memory. */
static struct named_zone *
new_zone(struct compile *c, struct slice name)
{
    struct named_zone *z = arena_alloc(c->scratch, 1, sizeof *z);

    if (z == NULL)
        compile_nomem(c);
    else
        z->name = compile_copy(c, name);
    return c->nomem ? NULL : z;
}

static struct named_zone *
add_zone(struct compile *c, struct slice name)
{
    struct named_zone *z = new_zone(c, name);
    const char *path;
    void *old;

    if (z == NULL)
        return NULL;
    if (!table_add(c->zones, slice_of(z->name), z, &old)) {
        compile_nomem(c);
        return NULL;
    }
    if (slice_eq(name, SLICE_LIT("UTC")))
        return z;
    path = arena_printf(c->scratch, "/usr/share/zoneinfo/%s", z->name);
    if (path == NULL)
        compile_nomem(c);
    return path != NULL && load_zone(c, path, z) ? z : NULL;
}

/* The zone of that name, read once.  NULL: an error was recorded. */
static const struct named_zone *
find_zone(struct compile *c, const struct node *n)
{
    struct named_zone *z;

    if (!compile_is_text(n) || !is_zone_name(n->text)) {
        diag_error(c->diag, n->at, "timezone: want %s, found %s", zone_form,
                   node_show(n).text);
        return NULL;
    }
    z = table_get(c->zones, n->text);
    if (z == NULL)
        z = add_zone(c, n->text);
    if (z == NULL || z->error == NULL)
        return z;
    diag_error(c->diag, n->at,
               "timezone: there is no %s that can be read (%s): want %s",
               node_show(n).text, z->error, zone_form);
    return NULL;
}

static bool
read_timezone(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    (void)row;
    (void)field;
    c->timezone = find_zone(c, n);
    return c->timezone != NULL;
}

const struct schema_type compile_timezone = {
    "the name of a time zone, such as Europe/Berlin", read_timezone};

/* Where nothing else is said.  NULL: out of memory. */
static const struct named_zone *
host_zone(struct compile *c, struct loc at)
{
    static const char path[] = "/etc/localtime";
    struct named_zone *z;

    if (c->host_zone != NULL)
        return c->host_zone;
    z = new_zone(c, SLICE_LIT("the host's time zone"));
    if (z == NULL || !load_zone(c, path, z))
        return NULL;
    if (z->error != NULL) {
        diag_warning(c->diag, at,
                     "time: UTC is taken, for the host's time zone cannot be "
                     "read (%s); timezone: NAME says which one is meant",
                     z->error);
        z->name = "UTC";
    }
    c->host_zone = z;
    return z;
}

/* ---- days ---- */

static const char *const day_names[] = {
    "sunday",   "monday", "tuesday",  "wednesday",
    "thursday", "friday", "saturday",
};

/* 0 = Sunday; in full, or its first three letters. */
static bool
find_day(struct slice s, unsigned *ret)
{
    for (unsigned i = 0; i < 7; i++)
        if (slice_eq_nocase(s, slice_of(day_names[i])) ||
            slice_eq_nocase(s, (struct slice){day_names[i], 3})) {
            *ret = i;
            return true;
        }
    return false;
}

static bool
no_day(struct compile *c, const struct node *n, struct slice s)
{
    struct suggest hint = suggest_start(s);
    char text[SUGGEST_TEXT];

    for (unsigned i = 0; i < 7; i++) {
        suggest_try(&hint, slice_of(day_names[i]));
        suggest_try(&hint, (struct slice){day_names[i], 3});
    }
    return diag_error(c->diag, n->at,
                      "time: %s is no day: want mon, tue, wed, thu, fri, sat "
                      "or sun, found %s%s",
                      node_show_text(s).text, node_show(n).text,
                      suggest_text(&hint, text));
}

/* Takes the text up to the separator, and that, off *s.  *ret_more: there was
 * one. */
static struct slice
take_until(struct slice *s, char separator, bool *ret_more)
{
    const char *end = s->len > 0 ? memchr(s->at, separator, s->len) : NULL;
    struct slice part = *s;

    *ret_more = end != NULL;
    if (end != NULL)
        part.len = (size_t)(end - s->at);
    *s = slice_from(*s, part.len + 1);
    return slice_trim(part);
}

/* Adds "fri-mon" to the bits. */
static bool
read_days(struct compile *c, const struct node *n, struct slice s,
          uint8_t *bits)
{
    bool is_range;
    struct slice first = take_until(&s, '-', &is_range), last = slice_trim(s);
    unsigned day, end;

    if (!find_day(first, &day))
        return no_day(c, n, first);
    end = day;
    if (is_range && !find_day(last, &end))
        return no_day(c, n, last);
    *bits |= (uint8_t)(1u << day);
    while (day != end) {
        day = (day + 1) % 7;
        *bits |= (uint8_t)(1u << day);
    }
    return true;
}

/* ---- hours ---- */

/* "8:00", "08:00"; at most 24:00. */
static bool
parse_minute(struct slice s, uint16_t *ret)
{
    unsigned digit[4] = {0}, n = 0;
    size_t colon = s.len - 3;

    if (s.len < 4 || s.len > 5 || s.at[colon] != ':')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (i != colon) {
            if (s.at[i] < '0' || s.at[i] > '9')
                return false;
            digit[n++] = (unsigned)(s.at[i] - '0');
        }
    if (n == 3) /* one for the hour */
        n = digit[0] * 60 + digit[1] * 10 + digit[2];
    else
        n = (digit[0] * 10 + digit[1]) * 60 + digit[2] * 10 + digit[3];
    *ret = (uint16_t)n;
    return s.at[colon + 1] < '6' && n <= MINUTES;
}

static bool
read_hours(struct compile *c, const struct node *n, struct slice s,
           uint16_t *ret_begin, uint16_t *ret_end)
{
    bool is_range;
    struct slice whole = s, first = take_until(&s, '-', &is_range);

    if (!is_range || !parse_minute(first, ret_begin) ||
        !parse_minute(slice_trim(s), ret_end))
        return diag_error(c->diag, n->at,
                          "time: %s is no span of hours: want one such as "
                          "08:00-18:00 or 22:00-06:00, found %s",
                          node_show_text(whole).text, node_show(n).text);
    if (*ret_begin == MINUTES)
        return diag_error(c->diag, n->at,
                          "time: a day ends at 24:00, and none begins there: "
                          "want 00:00, found %s",
                          node_show(n).text);
    if (*ret_begin == *ret_end)
        return diag_error(c->diag, n->at,
                          "time: it begins and ends at the same time; all day "
                          "is 00:00-24:00, found %s",
                          node_show(n).text);
    return true;
}

/* ---- the whole ---- */

static size_t
first_digit(struct slice s)
{
    size_t i = 0;

    while (i < s.len && (s.at[i] < '0' || s.at[i] > '9'))
        i++;
    return i;
}

static bool
read_span(struct compile *c, const struct node *n, struct condition *ret)
{
    size_t hours = first_digit(n->text);
    struct slice days = slice_trim((struct slice){n->text.at, hours});
    uint8_t bits = days.len > 0 ? 0 : 0x7F;
    uint16_t begin = 0, end = MINUTES;
    bool more = days.len > 0;
    size_t i = ret->n_spans;

    if (!compile_is_text(n))
        return diag_error(c->diag, n->at,
                          "time: want days, hours or both, such as \"mon-fri "
                          "08:00-18:00\", found %s",
                          node_show(n).text);
    while (more)
        if (!read_days(c, n, take_until(&days, ',', &more), &bits))
            return false;
    if (hours < n->text.len &&
        !read_hours(c, n, slice_from(n->text, hours), &begin, &end))
        return false;
    ret->span[i].days = bits;
    ret->span[i].begin = begin;
    ret->span[i].end = end;
    ret->span[i].text = compile_copy(c, n->text);
    ret->n_spans++;
    return ret->span[i].text != NULL;
}

bool
compile_read_time(struct compile *c, const struct node *n,
                  const struct node *zone, struct condition *ret)
{
    struct items items = compile_items(n);
    const struct named_zone *z = c->timezone;
    bool ok = true;

    if (zone != NULL)
        z = find_zone(c, zone);
    else if (z == NULL)
        z = host_zone(c, n->at);
    if (z != NULL) {
        ret->zone = z->zone;
        ret->zone_name = z->name;
    }
    if (items.n == 0)
        return diag_error(c->diag, n->at, "time: an empty list");
    ret->span = compile_alloc(c, items.n, sizeof *ret->span);
    if (ret->span == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        ok &= read_span(c, compile_item(&items, i), ret);
    return ok && z != NULL;
}
