/* milter/ctl/maillog.c - see maillog.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/maillog.h"

enum {
    QUEUE_ID_MIN = 5, /* short ids are hexadecimal, long ones base 52 */
    QUEUE_ID_MAX = 20,
};

/* ---- taking a line apart ---- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
take(struct slice *s, const char *prefix)
{
    if (!slice_starts(*s, prefix))
        return false;
    *s = slice_from(*s, strlen(prefix));
    return true;
}

/* Where `what` begins first; s.len when it does not. */
static size_t
find(struct slice s, const char *what)
{
    const char *at = s.len > 0 ? memmem(s.at, s.len, what, strlen(what)) : NULL;

    return at != NULL ? (size_t)(at - s.at) : s.len;
}

static struct slice
before(struct slice s, size_t n)
{
    return (struct slice){s.at, n};
}

/* Exactly `width` digits. */
static bool
take_digits(struct slice *s, unsigned width, int *ret)
{
    int n = 0;

    if (s->len < width)
        return false;
    for (unsigned i = 0; i < width; i++) {
        if (!is_digit(s->at[i]))
            return false;
        n = n * 10 + (s->at[i] - '0');
    }
    *s = slice_from(*s, width);
    *ret = n;
    return true;
}

/* All digits up to the next other octet; no more than 64 bits. */
static bool
take_number(struct slice *s, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < s->len && is_digit(s->at[i]); i++) {
        uint64_t digit = (uint64_t)(s->at[i] - '0');

        if (n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *s = slice_from(*s, i);
    *ret = n;
    return i > 0;
}

/* ---- the time stamp ---- */

struct civil {
    int year, month, day, hour, minute, second;
};

static bool
is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool
civil_exists(const struct civil *c)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return c->year >= 1970 && c->year <= 9999 && c->month >= 1 &&
           c->month <= 12 && c->day >= 1 &&
           c->day <= days[c->month - 1] + (c->month == 2 && is_leap(c->year)) &&
           c->hour < 24 && c->minute < 60 && c->second <= 60;
}

/* Seconds since 1970, as if the clock on the wall showed UTC. */
static int64_t
civil_seconds(const struct civil *c)
{
    static const int before_month[] = {0,   31,  59,  90,  120, 151,
                                       181, 212, 243, 273, 304, 334};
    int64_t years = c->year - 1970, y = c->year - 1;
    int64_t leaps = y / 4 - y / 100 + y / 400 - 477; /* of 1970..y */
    int64_t days = years * 365 + leaps + before_month[c->month - 1] +
                   (c->month > 2 && is_leap(c->year)) + c->day - 1;

    return ((days * 24 + c->hour) * 60 + c->minute) * 60 + c->second;
}

static bool
take_clock(struct slice *s, struct civil *c)
{
    return take_digits(s, 2, &c->hour) && take(s, ":") &&
           take_digits(s, 2, &c->minute) && take(s, ":") &&
           take_digits(s, 2, &c->second);
}

/* "2026-11-25T08:52:08.123456+01:00" */
static bool
take_rfc3339(struct slice *s, struct maillog_event *e)
{
    struct civil c;
    int hours, minutes;
    uint64_t fraction;

    if (!take_digits(s, 4, &c.year) || !take(s, "-") ||
        !take_digits(s, 2, &c.month) || !take(s, "-") ||
        !take_digits(s, 2, &c.day) || !(take(s, "T") || take(s, " ")) ||
        !take_clock(s, &c) || !civil_exists(&c))
        return false;
    if (take(s, ".") && !take_number(s, &fraction))
        return false;
    e->at_s = civil_seconds(&c);
    e->has_zone = true;
    if (take(s, "Z"))
        return true;
    if (s->len > 0 && (s->at[0] == '+' || s->at[0] == '-')) {
        int sign = s->at[0] == '-' ? 1 : -1;

        *s = slice_from(*s, 1);
        if (!take_digits(s, 2, &hours) || !take(s, ":") ||
            !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
            return false;
        e->at_s += sign * (hours * 3600 + minutes * 60);
        return true;
    }
    e->has_zone = false;
    return true;
}

/* "Nov 25 08:52:08".  The year goes on by itself when the months go far
 * back: a log is not older than it is long. */
static bool
take_rfc3164(struct maillog *m, struct slice *s, struct maillog_event *e)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct civil c = {0};
    uint64_t day;

    if (s->len < 4 || s->at[3] != ' ')
        return false;
    for (int i = 0; i < 12; i++)
        if (memcmp(s->at, names + 3 * i, 3) == 0)
            c.month = i + 1;
    *s = slice_from(*s, 4);
    while (take(s, " "))
        ;
    if (c.month == 0 || !take_number(s, &day) || day > 31 || !take(s, " ") ||
        !take_clock(s, &c))
        return false;
    c.day = (int)day;
    /* Into the next year; or a line of the old one that comes late. */
    c.year = m->year + (m->month - c.month > 6) -
             (m->month > 0 && c.month - m->month > 6);
    if (!civil_exists(&c))
        return false;
    if (c.year >= m->year) {
        m->year = c.year;
        m->month = c.month;
    }
    e->at_s = civil_seconds(&c);
    e->has_zone = false;
    return true;
}

/* ---- who wrote it ---- */

/* "host postfix/submission/smtpd[123]: QUEUEID: "; the daemon's name is what
 * stands behind the last slash. */
static bool
take_daemon(struct slice *s, struct slice *ret)
{
    size_t space = find(*s, " "), end;
    struct slice program;
    const char *slash;

    *s = slice_from(*s, space + 1);
    end = find(*s, ": ");
    program = before(*s, end);
    if (end == s->len || memchr(program.at, ' ', end) != NULL)
        return false;
    *s = slice_from(*s, end + 2);
    program.len = find(program, "[");
    slash = memrchr(program.at, '/', program.len);
    if (slash == NULL)
        return false;
    *ret = slice_from(program, (size_t)(slash - program.at) + 1);
    return true;
}

static bool
take_queue_id(struct slice *s, struct slice *ret)
{
    size_t end = find(*s, ": ");

    if (end < QUEUE_ID_MIN || end > QUEUE_ID_MAX || end == s->len)
        return false;
    for (size_t i = 0; i < end; i++) {
        char c = slice_lower(s->at[i]);

        if (!is_digit(c) && (c < 'a' || c > 'z'))
            return false;
    }
    *ret = before(*s, end);
    if (slice_eq(*ret, SLICE_LIT("NOQUEUE")) ||
        slice_eq(*ret, SLICE_LIT("warning")) ||
        slice_eq(*ret, SLICE_LIT("error")) ||
        slice_eq(*ret, SLICE_LIT("fatal")) ||
        slice_eq(*ret, SLICE_LIT("panic")))
        return false;
    *s = slice_from(*s, end + 2);
    return true;
}

/* ---- what it says ---- */

/* "<address>": up to the first > outside quotes that ends the field. */
static bool
take_path(struct slice *s, struct slice *ret)
{
    bool quoted = false;

    if (!take(s, "<"))
        return false;
    for (size_t i = 0; i < s->len; i++) {
        char c = s->at[i];

        if (c == '\\' && quoted) {
            i++;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (c == '>' && !quoted &&
                   (i + 1 == s->len || s->at[i + 1] == ',')) {
            *ret = before(*s, i);
            *s = slice_from(*s, i + 1);
            return true;
        }
    }
    return false;
}

/* "name[address]", "name[address]:port".  The name has no bracket; the
 * address may be IPv6. */
static bool
take_client(struct slice *s, struct maillog_event *e)
{
    size_t open = find(*s, "["), close;
    uint64_t port;

    if (open == s->len)
        return false;
    e->client_name = before(*s, open);
    *s = slice_from(*s, open + 1);
    close = find(*s, "]");
    if (close == s->len || memchr(s->at, ' ', close) != NULL)
        return false;
    e->client_address = before(*s, close);
    *s = slice_from(*s, close + 1);
    return !take(s, ":") || take_number(s, &port);
}

/* The value of the last ", name=value": a login may itself hold ", ". */
static bool
take_field(struct slice *s, const char *name, struct slice *ret)
{
    size_t at = find(*s, name);

    if (at == s->len)
        return false;
    *ret = slice_from(*s, at + strlen(name));
    s->len = at;
    return true;
}

static enum maillog_kind
read_client(struct slice s, struct maillog_event *e)
{
    struct slice other;

    if (!take(&s, "client=") || !take_client(&s, e))
        return MAILLOG_OTHER;
    take_field(&s, ", orig_client=", &other);
    e->passed_on = take_field(&s, ", orig_queue_id=", &other);
    take_field(&s, ", sasl_sender=", &other);
    take_field(&s, ", sasl_username=", &e->auth);
    return MAILLOG_CLIENT;
}

static enum maillog_kind
read_message_id(struct slice s, struct maillog_event *e)
{
    if (!take(&s, "message-id="))
        return MAILLOG_OTHER;
    e->message_id = slice_trim(s);
    return MAILLOG_MESSAGE_ID;
}

static enum maillog_kind
read_queue(struct slice s, struct maillog_event *e)
{
    if (slice_eq(s, SLICE_LIT("removed")))
        return MAILLOG_REMOVED;
    if (!take(&s, "from=") || !take_path(&s, &e->sender) ||
        !take(&s, ", size=") || !take_number(&s, &e->size_octets) ||
        !take(&s, ", nrcpt=") || !take_number(&s, &e->n_recipients))
        return MAILLOG_OTHER;
    return MAILLOG_QUEUED;
}

static enum maillog_kind
read_delivery(struct slice s, struct maillog_event *e)
{
    size_t status;

    if (!take(&s, "to=") || !take_path(&s, &e->recipient))
        return MAILLOG_OTHER;
    if (take(&s, ", orig_to=") && !take_path(&s, &e->original))
        return MAILLOG_OTHER;
    status = find(s, ", status=");
    if (status == s.len)
        return MAILLOG_OTHER;
    s = slice_from(s, status + strlen(", status="));
    e->status = before(s, find(s, " "));
    return MAILLOG_DELIVERY;
}

static enum maillog_kind
read_text(struct slice daemon, struct slice s, struct maillog_event *e)
{
    if (slice_eq(daemon, SLICE_LIT("smtpd")))
        return read_client(s, e);
    if (slice_eq(daemon, SLICE_LIT("pickup")))
        return slice_starts(s, "uid=") ? MAILLOG_LOCAL : MAILLOG_OTHER;
    if (slice_eq(daemon, SLICE_LIT("cleanup")))
        return read_message_id(s, e);
    if (slice_eq(daemon, SLICE_LIT("qmgr")) && !slice_starts(s, "to="))
        return read_queue(s, e);
    return read_delivery(s, e);
}

bool
maillog_line(struct maillog *m, struct slice line, struct maillog_event *ret)
{
    struct maillog_event e = {0};
    struct slice s = line, daemon;

    if (s.len == 0 ||
        !(is_digit(s.at[0]) ? take_rfc3339(&s, &e) : take_rfc3164(m, &s, &e)))
        return false;
    if (s.len > 0 && !take(&s, " "))
        return false;
    if (take_daemon(&s, &daemon) && take_queue_id(&s, &e.queue_id)) {
        e.kind = read_text(daemon, s, &e);
    }
    *ret = (struct maillog_event){.at_s = e.at_s, .has_zone = e.has_zone};
    if (e.kind != MAILLOG_OTHER)
        *ret = e;
    return true;
}
