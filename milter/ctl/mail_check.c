/* milter/ctl/mail_check.c - see mail_check.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mail_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/clock.h"
#include "milter/base/stream.h"

enum { PORT_SMTPS = 465, PORT_SUBMISSION = 587 };

/* ---- which servers ---- */

/* "host:port", as the configuration has checked it. */
static void
set_endpoint(struct mail_server *s, enum mail_protocol protocol,
             const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');

    s->protocol = protocol;
    snprintf(s->host, sizeof s->host, "%.*s", (int)(colon - endpoint),
             endpoint);
    s->port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

unsigned
mail_servers(const struct smarthost *h,
             struct mail_server ret[MAIL_SERVERS_MAX])
{
    bool starttls = h->tls == SMARTHOST_TLS_STARTTLS;
    uint16_t standard = starttls ? PORT_SUBMISSION : PORT_SMTPS;
    struct mail_server smtp = {.protocol = MAIL_SMTP,
                               .connect = h->connect,
                               .port = h->port,
                               .starttls = starttls,
                               .ca_file = h->ca_file,
                               .used = true};
    unsigned n = 0;

    snprintf(smtp.host, sizeof smtp.host, "%s", h->host);
    ret[n++] = smtp;
    if (h->port == standard) {
        smtp.starttls = !starttls;
        smtp.port = starttls ? PORT_SMTPS : PORT_SUBMISSION;
        smtp.used = false;
        ret[n++] = smtp;
    }
    for (int pop = 0; pop <= 1; pop++) {
        const char *endpoint = pop ? h->pop : h->imap;

        if (endpoint == NULL)
            continue;
        ret[n] = (struct mail_server){.ca_file = h->ca_file};
        set_endpoint(&ret[n++], pop ? MAIL_POP : MAIL_IMAP, endpoint);
    }
    return n;
}

/* ---- one of them ---- */

struct talk {
    const struct mail_server *server;
    struct stream *stream;
    struct tls_client *tls;
    struct mail_login login;
    uint64_t deadline_ms;
    struct mail_verdict *ret;
    char in[MAIL_LINE_MAX]; /* what has come and is no line yet */
    size_t len;
};

static bool
fail(struct talk *t, enum mail_fault fault, const char *said)
{
    t->ret->fault = fault;
    snprintf(t->ret->said, sizeof t->ret->said, "%s", said);
    return false;
}

static bool
secure(struct talk *t)
{
    enum stream_result r;

    if (t->len > 0) /* sent in the clear, to be taken for secured */
        return fail(t, MAIL_NOT_PROTOCOL,
                    "the server sent more before TLS than it should");
    r = stream_start_tls(t->stream, t->tls, t->server->host, "",
                         t->deadline_ms);
    if (r != STREAM_OK)
        return fail(t,
                    r == STREAM_ETLS ? mail_tls_fault(stream_error(t->stream))
                                     : MAIL_TLS_OTHER,
                    r == STREAM_ETIMEOUT ? "timeout in the TLS handshake"
                                         : stream_error(t->stream));
    snprintf(t->ret->tls, sizeof t->ret->tls, "%s", stream_tls_info(t->stream));
    return true;
}

/* Moves the next line, without its end, into `line`. */
static bool
read_line(struct talk *t, char line[MAIL_LINE_MAX], struct slice *ret)
{
    for (;;) {
        char *end = t->len > 0 ? memchr(t->in, '\n', t->len) : NULL;
        enum stream_result r;
        size_t n = 0;

        if (end != NULL) {
            size_t whole = (size_t)(end - t->in) + 1;

            memcpy(line, t->in, whole);
            memmove(t->in, t->in + whole, t->len - whole);
            t->len -= whole;
            *ret = slice_trim((struct slice){line, whole});
            return true;
        }
        if (t->len == sizeof t->in)
            return fail(t, MAIL_NOT_PROTOCOL, "the server's line has no end");
        r = stream_read(t->stream, t->in + t->len, sizeof t->in - t->len,
                        t->deadline_ms, &n);
        if (r != STREAM_OK)
            return fail(t, MAIL_UNREACHABLE,
                        r == STREAM_ETIMEOUT
                            ? "the server does not answer in time"
                        : r == STREAM_EOF ? "the server closed the connection"
                                          : stream_error(t->stream));
        t->len += n;
    }
}

static bool
send_out(struct talk *t)
{
    struct buf *out = &t->login.out;
    bool ok = out->len == 0 || stream_write(t->stream, out->at, out->len,
                                            t->deadline_ms) == STREAM_OK;

    if (out->len > 0)
        explicit_bzero(out->at, out->len);
    buf_clear(out);
    return ok || fail(t, MAIL_UNREACHABLE, stream_error(t->stream));
}

static void
converse(struct talk *t)
{
    enum mail_want want = MAIL_WANT_LINE;

    while (want != MAIL_WANT_NOTHING) {
        char line[MAIL_LINE_MAX];
        struct slice text;

        if (!send_out(t))
            return;
        if (want == MAIL_WANT_TLS) {
            if (!secure(t))
                return;
            want = mail_login_secured(&t->login);
        } else {
            if (!read_line(t, line, &text))
                return;
            want = mail_login_line(&t->login, text);
        }
    }
    fail(t, t->login.fault, t->login.said);
    if (stream_write(t->stream, t->login.out.at, t->login.out.len,
                     t->deadline_ms) != STREAM_OK)
        return; /* the goodbye is a courtesy */
}

void
mail_check(const struct mail_server *s, const struct mail_credentials *who,
           unsigned ms, struct mail_verdict *ret)
{
    struct talk t = {.server = s,
                     .deadline_ms = clock_boot_ms(&clock_real) + ms,
                     .ret = ret};
    char err[300];

    *ret = (struct mail_verdict){.fault = MAIL_UNREACHABLE};
    t.tls = tls_client_new(s->ca_file, err, sizeof err);
    if (t.tls == NULL) {
        fail(&t, MAIL_TLS_CA, err);
        return;
    }
    t.stream = stream_connect(s->connect != NULL ? s->connect : s->host,
                              s->port, t.deadline_ms, err, sizeof err);
    mail_login_begin(&t.login, s->protocol, s->starttls, who);
    if (t.stream == NULL)
        fail(&t, MAIL_UNREACHABLE, err);
    else if (s->starttls || secure(&t))
        converse(&t);
    mail_login_free(&t.login);
    stream_close(t.stream);
    tls_client_free(t.tls);
}
