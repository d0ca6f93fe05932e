/* milter/deliver/lmtp.c - see lmtp.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/lmtp.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum state {
    COMMAND,    /* between commands */
    ASKED,      /* an event waits for its answer */
    LINE_START, /* content, behind CRLF: a dot means something */
    LINE,       /* content, inside a line */
    AFTER_CR,   /* content, behind CR */
    AFTER_DOT,  /* content, behind the dot that began a line */
    AFTER_DOT_CR,
    ENDED, /* the caller answers for each recipient */
    CLOSED,
};

void
lmtp_init(struct lmtp *l, const char *hostname)
{
    memset(l, 0, sizeof *l);
    buf_init(&l->in, LMTP_INPUT_MAX);
    buf_init(&l->out, LMTP_OUTPUT_MAX);
    l->hostname = hostname;
    l->state = COMMAND;
    buf_printf(&l->out, "220 %s LMTP gmroute\r\n", hostname);
}

void
lmtp_free(struct lmtp *l)
{
    buf_free(&l->in);
    buf_free(&l->out);
}

bool
lmtp_feed(struct lmtp *l, const void *data, size_t len)
{
    if (l->eaten > 0) {
        buf_eat(&l->in, l->eaten);
        l->eaten = 0;
    }
    return buf_add(&l->in, data, len);
}

static void
say(struct lmtp *l, const char *reply)
{
    buf_add_text(&l->out, reply);
    buf_add_text(&l->out, "\r\n");
}

static void
bad(struct lmtp *l, const char *reply)
{
    if (++l->errors >= LMTP_ERRORS_MAX) {
        say(l, "421 4.7.0 Too many errors");
        l->state = CLOSED;
        return;
    }
    say(l, reply);
}

static void
transaction_reset(struct lmtp *l)
{
    l->has_mail = false;
    l->n_recipients = 0;
    l->smtputf8 = l->body_8bit = false;
    l->content_size = 0;
}

static enum lmtp_event
ask(struct lmtp *l, enum lmtp_event event)
{
    l->state = ASKED;
    l->asked = (int)event;
    return event;
}

/* Takes the next word off *s. */
static struct slice
word(struct slice *s)
{
    struct slice w;
    size_t n = 0;

    while (s->len > 0 && s->at[0] == ' ')
        *s = slice_from(*s, 1);
    while (n < s->len && s->at[n] != ' ')
        n++;
    w = (struct slice){s->at, n};
    *s = slice_from(*s, n);
    return w;
}

/* "FROM:<path> PARAM..." - takes the path off *rest, without its brackets.
 * Quoted strings may hold '>' (RFC 5321 4.1.2). */
static bool
path_of(struct slice *rest, const char *keyword, struct slice *ret)
{
    struct slice s = *rest;
    size_t n = strlen(keyword);
    bool quoted = false;

    if (s.len < n || strncasecmp(s.at, keyword, n) != 0)
        return false;
    s = slice_from(s, n);
    while (s.len > 0 && s.at[0] == ' ')
        s = slice_from(s, 1);
    if (s.len < 2 || s.at[0] != '<')
        return false;
    for (size_t i = 1; i < s.len; i++) {
        if (s.at[i] == '\\' && quoted) {
            i++;
        } else if (s.at[i] == '"') {
            quoted = !quoted;
        } else if (s.at[i] == '>' && !quoted) {
            *ret = (struct slice){s.at + 1, i - 1};
            *rest = slice_from(s, i + 1);
            return rest->len == 0 || rest->at[0] == ' ';
        }
    }
    return false;
}

static bool
is_above_limit(struct slice digits)
{
    uint64_t n = 0;

    for (size_t i = 0; i < digits.len && n <= LMTP_SIZE_MAX; i++)
        if (digits.at[i] >= '0' && digits.at[i] <= '9')
            n = n * 10 + (uint64_t)(digits.at[i] - '0');
    return n > LMTP_SIZE_MAX;
}

static bool
mail_parameter(struct lmtp *l, struct slice p)
{
    if (slice_eq_nocase(p, SLICE_LIT("SMTPUTF8")))
        return l->smtputf8 = true;
    if (slice_eq_nocase(p, SLICE_LIT("BODY=8BITMIME")))
        return l->body_8bit = true;
    if (p.len > 5 && strncasecmp(p.at, "SIZE=", 5) == 0) {
        l->content_size =
            is_above_limit(slice_from(p, 5)) ? (uint64_t)LMTP_SIZE_MAX + 1 : 0;
        return true;
    }
    return slice_eq_nocase(p, SLICE_LIT("BODY=7BIT"));
}

static enum lmtp_event
mail(struct lmtp *l, struct slice rest)
{
    struct slice p;

    if (!l->greeted) {
        bad(l, "503 5.5.1 LHLO first");
        return LMTP_NEED_INPUT;
    }
    if (l->has_mail) {
        bad(l, "503 5.5.1 MAIL is given already");
        return LMTP_NEED_INPUT;
    }
    if (!path_of(&rest, "FROM:", &l->path)) {
        bad(l, "501 5.5.4 Syntax: MAIL FROM:<address>");
        return LMTP_NEED_INPUT;
    }
    transaction_reset(l);
    while ((p = word(&rest)).len > 0)
        if (!mail_parameter(l, p)) {
            bad(l, "555 5.5.4 Unsupported parameter of MAIL");
            return LMTP_NEED_INPUT;
        }
    if (lmtp_is_too_large(l)) {
        say(l, "552 5.3.4 Message is too large"); /* RFC 1870 6.1 */
        return LMTP_NEED_INPUT;
    }
    return ask(l, LMTP_MAIL);
}

static enum lmtp_event
rcpt(struct lmtp *l, struct slice rest)
{
    if (!l->has_mail) {
        bad(l, "503 5.5.1 MAIL first");
    } else if (l->n_recipients >= LMTP_RECIPIENTS_MAX) {
        say(l, "452 4.5.3 Too many recipients"); /* RFC 5321 4.5.3.1.10 */
    } else if (!path_of(&rest, "TO:", &l->path) || l->path.len == 0) {
        bad(l, "501 5.5.4 Syntax: RCPT TO:<address>");
    } else if (word(&rest).len > 0) {
        bad(l, "555 5.5.4 Unsupported parameter of RCPT");
    } else {
        return ask(l, LMTP_RCPT);
    }
    return LMTP_NEED_INPUT;
}

static void
lhlo(struct lmtp *l)
{
    l->greeted = true;
    transaction_reset(l);
    buf_printf(&l->out,
               "250-%s\r\n"
               "250-PIPELINING\r\n"
               "250-8BITMIME\r\n"
               "250-SMTPUTF8\r\n"
               "250-ENHANCEDSTATUSCODES\r\n"
               "250-SIZE %d\r\n"
               "250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n",
               l->hostname, LMTP_SIZE_MAX);
}

/* RFC 3461 4: "+XX" stands for one octet. */
static void
xtext_decode(struct slice from, char *ret, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < from.len && n + 1 < size; i++) {
        char hex[3] = {0};
        unsigned char c = (unsigned char)from.at[i];

        if (c == '+' && i + 2 < from.len) {
            memcpy(hex, from.at + i + 1, 2);
            c = (unsigned char)strtol(hex, NULL, 16);
            i += 2;
        }
        ret[n++] = c > ' ' && c < 0x7f ? (char)c : '?';
    }
    ret[n] = 0;
}

static void
xforward(struct lmtp *l, struct slice rest)
{
    struct slice p;

    while ((p = word(&rest)).len > 0) {
        if (p.len <= 6 || strncasecmp(p.at, "IDENT=", 6) != 0)
            continue;
        p = slice_from(p, 6);
        if (slice_eq_nocase(p, SLICE_LIT("[UNAVAILABLE]")))
            l->ident[0] = 0;
        else
            xtext_decode(p, l->ident, sizeof l->ident);
    }
    say(l, "250 2.0.0 OK");
}

static enum lmtp_event
data(struct lmtp *l)
{
    if (!l->has_mail) {
        bad(l, "503 5.5.1 MAIL first");
        return LMTP_NEED_INPUT;
    }
    if (l->n_recipients == 0) { /* RFC 2033 4.2 */
        say(l, "503 5.5.1 No valid recipients");
        return LMTP_NEED_INPUT;
    }
    return ask(l, LMTP_DATA);
}

/* A bare LF or CR in an address would be a second command to Gmail. */
static bool
has_control(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)line.at[i] < ' ' || line.at[i] == 0x7f)
            return true;
    return false;
}

/* One command line, without CRLF.  LMTP_NEED_INPUT: handled in here. */
static enum lmtp_event
command(struct lmtp *l, struct slice line)
{
    struct slice rest = line, verb;

    if (has_control(line)) {
        bad(l, "500 5.5.2 Control character in command");
        return LMTP_NEED_INPUT;
    }
    verb = word(&rest);
    if (rest.len > 0)
        rest = slice_from(rest, 1);
    if (slice_eq_nocase(verb, SLICE_LIT("MAIL")))
        return mail(l, rest);
    if (slice_eq_nocase(verb, SLICE_LIT("RCPT")))
        return rcpt(l, rest);
    if (slice_eq_nocase(verb, SLICE_LIT("DATA")))
        return data(l);
    if (slice_eq_nocase(verb, SLICE_LIT("LHLO"))) {
        lhlo(l);
        return LMTP_RESET;
    }
    if (slice_eq_nocase(verb, SLICE_LIT("RSET"))) {
        transaction_reset(l);
        say(l, "250 2.0.0 OK");
        return LMTP_RESET;
    }
    if (slice_eq_nocase(verb, SLICE_LIT("QUIT"))) {
        say(l, "221 2.0.0 Bye");
        l->state = CLOSED;
        return LMTP_CLOSE;
    }
    if (slice_eq_nocase(verb, SLICE_LIT("XFORWARD")))
        xforward(l, rest);
    else if (slice_eq_nocase(verb, SLICE_LIT("NOOP")))
        say(l, "250 2.0.0 OK");
    else if (slice_eq_nocase(verb, SLICE_LIT("VRFY")))
        say(l, "252 2.5.2 Cannot verify; try RCPT");
    else if (slice_eq_nocase(verb, SLICE_LIT("HELO")) ||
             slice_eq_nocase(verb, SLICE_LIT("EHLO")))
        bad(l, "500 5.5.1 This is LMTP: say LHLO");
    else
        bad(l, "500 5.5.2 Unknown command");
    return LMTP_NEED_INPUT;
}

static struct slice
pending(const struct lmtp *l)
{
    return slice_from(buf_slice(&l->in), l->eaten);
}

/* Takes one line off the input; only CRLF ends a line (RFC 5321 2.3.8). */
static bool
take_line(struct lmtp *l, struct slice *ret)
{
    struct slice s = pending(l);
    const char *end = s.len > 0 ? memmem(s.at, s.len, "\r\n", 2) : NULL;

    if (end == NULL) {
        if (s.len > LMTP_LINE_MAX) {
            l->skipping_line = true;
            /* Keep the last octet: it may be the CR. */
            l->eaten += s.len - 1;
        }
        return false;
    }
    *ret = (struct slice){s.at, (size_t)(end - s.at)};
    l->eaten += ret->len + 2;
    return true;
}

static enum lmtp_event
next_command(struct lmtp *l)
{
    struct slice line;

    while (l->state == COMMAND && take_line(l, &line)) {
        enum lmtp_event e = LMTP_NEED_INPUT;

        l->progress++;
        if (l->skipping_line || line.len > LMTP_LINE_MAX - 2) {
            l->skipping_line = false;
            bad(l, "500 5.5.6 Line too long");
        } else {
            e = command(l, line);
        }
        if (e != LMTP_NEED_INPUT)
            return e;
    }
    return l->state == CLOSED ? LMTP_CLOSE : LMTP_NEED_INPUT;
}

/* One step through content: the state after octet c, and how many of the
 * octets ".\r" held back before it turn out to be content. */
static enum state
content_step(enum state at, char c)
{
    switch (at) {
    case LINE_START:
        if (c == '.')
            return AFTER_DOT;
        return c == '\r' ? AFTER_CR : LINE;
    case AFTER_CR:
        if (c == '\n')
            return LINE_START;
        return c == '\r' ? AFTER_CR : LINE;
    case AFTER_DOT:
        return c == '\r' ? AFTER_DOT_CR : LINE;
    case AFTER_DOT_CR:
        if (c == '\n')
            return ENDED;
        return c == '\r' ? AFTER_CR : LINE;
    default:
        return c == '\r' ? AFTER_CR : LINE;
    }
}

/* Hands out the longest run of content at the front of the input.  The dot
 * that was stuffed in front of a line, and the final dot line, are left out;
 * a CR behind such a dot that ends no line is given back. */
static enum lmtp_event
next_content(struct lmtp *l)
{
    struct slice s = pending(l);
    size_t from = 0, i = 0;

    if (s.len == 0)
        return LMTP_NEED_INPUT;
    while (i < s.len) {
        enum state before = (enum state)l->state;

        if (before == LINE) {
            const char *cr = memchr(s.at + i, '\r', s.len - i);

            if (cr == NULL) {
                i = s.len;
                break;
            }
            i = (size_t)(cr - s.at);
        }
        l->state = (int)content_step(before, s.at[i]);
        if (l->state == AFTER_DOT) {
            if (i > from)
                goto run; /* up to here; the dot is dropped */
            from = i + 1;
        } else if (l->state == AFTER_DOT_CR) {
            from = i + 1; /* held back: ".\r\n" ends, ".\rx" does not */
        } else if (l->state == ENDED) {
            l->eaten += i + 1;
            l->progress++;
            return ask(l, LMTP_END);
        } else if (before == AFTER_DOT_CR) {
            static const char cr[] = "\r";

            /* Not the end after all: the CR is content, then this octet is
             * looked at again. */
            l->state = AFTER_CR;
            l->eaten += i;
            l->content = (struct slice){cr, 1};
            return LMTP_CONTENT;
        }
        i++;
    }
run:
    l->content = (struct slice){s.at + from, i - from};
    l->eaten += l->state == AFTER_DOT && i < s.len ? i + 1 : i;
    l->progress +=
        (l->content_size % LMTP_PROGRESS + l->content.len) / LMTP_PROGRESS;
    l->content_size += l->content.len;
    return l->content.len > 0 ? LMTP_CONTENT : LMTP_NEED_INPUT;
}

bool
lmtp_in_content(const struct lmtp *l)
{
    return l->state != COMMAND && l->state != ASKED && l->state != CLOSED;
}

bool
lmtp_is_too_large(const struct lmtp *l)
{
    return l->content_size > LMTP_SIZE_MAX;
}

enum lmtp_event
lmtp_next(struct lmtp *l)
{
    if (buf_failed(&l->out))
        l->state = CLOSED; /* out of memory, or nobody reads our replies */
    switch ((enum state)l->state) {
    case COMMAND:
        return next_command(l);
    case ASKED:
        return (enum lmtp_event)l->asked;
    case CLOSED:
        return LMTP_CLOSE;
    default:
        return next_content(l);
    }
}

void
lmtp_answer(struct lmtp *l, const char *reply)
{
    bool ok = reply[0] == '2';

    say(l, reply);
    if (l->asked == LMTP_END)
        return; /* lmtp_end() follows */
    l->state = COMMAND;
    if (l->asked == LMTP_MAIL)
        l->has_mail = ok;
    else if (l->asked == LMTP_RCPT)
        l->n_recipients += ok;
    else if (l->asked == LMTP_DATA && reply[0] == '3')
        l->state = LINE_START;
    else if (l->asked == LMTP_DATA)
        transaction_reset(l);
}

void
lmtp_end(struct lmtp *l)
{
    transaction_reset(l);
    l->state = COMMAND;
}
