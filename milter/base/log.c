/* milter/base/log.c - see log.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

enum {
    TAIL = 4, /* room kept for "..." and a closing quote */
    LINE_END = LOG_LINE_MAX - 1 - TAIL,
};

static const struct {
    const char *name, *mark;
    int priority;
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", "error: ", LOG_ERR},
    [LOG_LEVEL_WARN] = {"warning", "warning: ", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", "", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug", "", LOG_DEBUG},
};

/* Written by log_open alone, before there are threads. */
static const char *log_program = "gmroute";
static enum log_target log_target = LOG_TO_STDERR;
static enum log_level log_level = LOG_LEVEL_INFO;

static void (*_Atomic captured_by)(enum log_level, const char *);

void
log_open(const char *program, enum log_target target, enum log_level level)
{
    log_program = program;
    log_target = target;
    log_level = level;
    if (target == LOG_TO_SYSLOG)
        openlog(program, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

void
log_capture(void (*to)(enum log_level level, const char *line))
{
    atomic_store(&captured_by, to);
}

bool
log_level_parse(const char *text, enum log_level *ret)
{
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(text, levels[i].name) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    if (strcmp(text, "warn") != 0)
        return false;
    *ret = LOG_LEVEL_WARN;
    return true;
}

bool
log_on(enum log_level level)
{
    return level <= log_level;
}

/* One write(2), so that lines of several processes do not mix. */
static void
write_stderr(enum log_level level, const char *line)
{
    char out[LOG_LINE_MAX + 128];
    int n = snprintf(out, sizeof out, "%.64s: %s%s\n", log_program,
                     levels[level].mark, line);

    if (n < 0)
        return;
    if ((size_t)n >= sizeof out)
        n = (int)sizeof out - 1;
    while (write(STDERR_FILENO, out, (size_t)n) < 0 && errno == EINTR)
        ;
}

static void
emit(enum log_level level, const char *line)
{
    void (*capture)(enum log_level, const char *) = atomic_load(&captured_by);
    int keep = errno; /* logging is no reason to lose the caller's */

    if (capture != NULL)
        capture(level, line);
    else if (log_target == LOG_TO_SYSLOG)
        syslog(levels[level].priority, "%s%s", levels[level].mark, line);
    else
        write_stderr(level, line);
    errno = keep;
}

/* ---- text that cannot forge anything ---- */

/* Octets of the well-formed character at s (Unicode table 3-7), 0 when there
 * is none; *ret is its code point. */
static unsigned
utf8_char(const unsigned char *s, size_t len, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    uint32_t c;

    if (s[0] < 0x80) {
        *ret = s[0];
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    c = s[0] & (0xffu >> (n + 1));
    if (n > len)
        return 0;
    for (unsigned i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *ret = c;
    return n;
}

/* Controls, and what moves or reorders text on a screen. */
static bool
is_harmful(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Appends text, at most max octets of it, made harmless; "..." when cut. */
static void
put_text(struct log_line *l, struct slice text, size_t max, bool quoted)
{
    size_t i = 0, put = 0;

    while (i < text.len) {
        const unsigned char *s = (const unsigned char *)text.at + i;
        uint32_t c = 0;
        unsigned n = utf8_char(s, text.len - i, &c);
        bool bad = n == 0 || is_harmful(c);
        bool escape = quoted && (c == '"' || c == '\\');
        unsigned need = bad ? 1 : n + escape;

        if (l->len + need > LINE_END || put + need > max) {
            memcpy(l->text + l->len, "...", 3);
            l->len += 3;
            return;
        }
        if (bad) {
            l->text[l->len++] = '?';
        } else {
            if (escape)
                l->text[l->len++] = '\\';
            memcpy(l->text + l->len, s, n);
            l->len += n;
        }
        put += need;
        i += n > 0 ? n : 1;
    }
}

static bool
needs_quotes(struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (strchr(" \"=\\", value.at[i]) != NULL && value.at[i] != '\0')
            return true;
    return false;
}

/* ---- lines of pairs ---- */

struct log_line
log_line(enum log_level level)
{
    struct log_line l;

    l.level = level;
    l.on = log_on(level);
    l.full = false;
    l.len = 0;
    l.text[0] = '\0';
    return l;
}

void
log_kv_slice(struct log_line *l, const char *key, struct slice value)
{
    size_t key_len = strlen(key);
    bool quoted;

    if (!l->on || l->full || value.len == 0)
        return;
    quoted = needs_quotes(value);

    /* A pair begins only where its key and some of its value fit. */
    if (l->len + 1 + key_len + 1 + quoted + 8 > LINE_END) {
        l->full = true;
        memcpy(l->text + l->len, " ...", 4);
        l->len += 4;
        return;
    }
    if (l->len > 0)
        l->text[l->len++] = ' ';
    memcpy(l->text + l->len, key, key_len);
    l->len += (unsigned)key_len;
    l->text[l->len++] = '=';
    if (quoted)
        l->text[l->len++] = '"';
    put_text(l, value, LOG_VALUE_MAX, quoted);
    if (quoted)
        l->text[l->len++] = '"';
    l->full = l->len > LINE_END;
}

void
log_kv(struct log_line *l, const char *key, const char *value)
{
    log_kv_slice(l, key, slice_of(value));
}

void
log_kv_u64(struct log_line *l, const char *key, uint64_t value)
{
    char text[24];

    if (!l->on)
        return;
    snprintf(text, sizeof text, "%" PRIu64, value);
    log_kv(l, key, text);
}

void
log_end(struct log_line *l)
{
    if (!l->on)
        return;
    l->text[l->len] = '\0';
    emit(l->level, l->text);
    l->on = false;
}

/* ---- free text ---- */

static void
log_text(enum log_level level, const char *fmt, va_list ap)
{
    char raw[LOG_LINE_MAX * 2];
    struct log_line l = log_line(level);
    int n;

    if (!l.on)
        return;
    n = vsnprintf(raw, sizeof raw, fmt, ap);
    if (n < 0)
        n = snprintf(raw, sizeof raw, "(cannot format \"%s\")", fmt);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof raw)
        n = sizeof raw - 1;
    put_text(&l, (struct slice){raw, (size_t)n}, LOG_LINE_MAX, false);
    log_end(&l);
}

void
log_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_text(LOG_LEVEL_ERROR, fmt, ap);
    va_end(ap);
}

void
log_warn(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_text(LOG_LEVEL_WARN, fmt, ap);
    va_end(ap);
}

void
log_info(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_text(LOG_LEVEL_INFO, fmt, ap);
    va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_text(LOG_LEVEL_DEBUG, fmt, ap);
    va_end(ap);
}
