/* milter/deliver/connection.c - see connection.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/connection.h"

#include <stdio.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/deliver/lmtp.h"

enum {
    /* RFC 5321 4.5.3.2.7: a server waits at least five minutes for the next
     * command, the whole of it; content comes in blocks (4.5.3.2.5: three
     * minutes each), and holds a session with Gmail meanwhile. */
    COMMAND_MS = 5 * 60 * 1000,
    BLOCK_MS = 3 * 60 * 1000,
    CONTENT_MS = 30 * 60 * 1000,
    WRITE_MS = 60 * 1000,
    READ_MAX = 32 * 1024,
};

struct serving {
    struct connection *c;
    struct lmtp lmtp;
    struct relay *relay; /* the transaction; NULL = none */
    uint64_t progress;   /* of lmtp, when the deadline was set */
    uint64_t deadline_ms, content_until_ms;
};

static uint64_t
now_ms(const struct serving *s)
{
    return clock_boot_ms(s->c->env->clock);
}

/* The time runs from the last progress, not from the last octet. */
static void
set_deadline(struct serving *s)
{
    if (s->deadline_ms != 0 && s->progress == s->lmtp.progress)
        return;
    s->progress = s->lmtp.progress;
    s->deadline_ms = now_ms(s) + COMMAND_MS;
    if (!lmtp_in_content(&s->lmtp)) {
        s->content_until_ms = 0;
        return;
    }
    if (s->content_until_ms == 0)
        s->content_until_ms = now_ms(s) + CONTENT_MS;
    s->deadline_ms = now_ms(s) + BLOCK_MS;
    if (s->deadline_ms > s->content_until_ms)
        s->deadline_ms = s->content_until_ms;
}

static void
end_transaction(struct serving *s)
{
    relay_free(s->relay);
    s->relay = NULL;
    atomic_store(&s->c->busy, false);
}

static void
copy_path(struct slice path, char *ret, size_t size)
{
    snprintf(ret, size, "%.*s", SLICE_FMT(path));
}

static void
on_mail(struct serving *s)
{
    char sender[1024];

    if (s->lmtp.path.len >= sizeof sender) {
        lmtp_answer(&s->lmtp, "553 5.1.7 Sender address is too long");
        return;
    }
    copy_path(s->lmtp.path, sender, sizeof sender);
    end_transaction(s);
    atomic_store(&s->c->busy, true);
    s->relay = relay_new(s->c->env, sender, s->lmtp.ident);
    lmtp_answer(&s->lmtp,
                s->relay != NULL ? "250 2.1.0 OK" : "451 4.3.0 Out of memory");
}

static void
on_rcpt(struct serving *s)
{
    char address[1024];

    if (s->lmtp.path.len >= sizeof address) {
        lmtp_answer(&s->lmtp, "451 4.3.5 Recipient address is too long");
        return;
    }
    copy_path(s->lmtp.path, address, sizeof address);
    lmtp_answer(&s->lmtp, relay_rcpt(s->relay, address));
}

static void
on_content(struct serving *s)
{
    if (!lmtp_is_too_large(&s->lmtp)) /* else the disk is not filled with it */
        relay_content(s->relay, s->lmtp.content.at, s->lmtp.content.len);
}

static void
on_end(struct serving *s)
{
    bool too_large = lmtp_is_too_large(&s->lmtp);

    if (too_large)
        log_warn("queue=%s outcome=refused reply=\"552 5.3.4 Message is too "
                 "large\" limit=%d",
                 s->lmtp.ident, LMTP_SIZE_MAX);
    else
        relay_finish(s->relay);
    for (size_t i = 0; i < relay_recipients(s->relay); i++)
        lmtp_answer(&s->lmtp, too_large ? "552 5.3.4 Message is too large"
                                        : relay_reply(s->relay, i));
    lmtp_end(&s->lmtp);
    end_transaction(s);
}

/* Works off what has arrived.  False: hang up. */
static bool
work(struct serving *s)
{
    for (;;) {
        const char *reply;

        switch (lmtp_next(&s->lmtp)) {
        case LMTP_NEED_INPUT:
            return true;
        case LMTP_MAIL:
            on_mail(s);
            break;
        case LMTP_RCPT:
            on_rcpt(s);
            break;
        case LMTP_DATA:
            reply = relay_data(s->relay);
            lmtp_answer(&s->lmtp, reply);
            if (reply[0] != '3')
                end_transaction(s);
            break;
        case LMTP_CONTENT:
            on_content(s);
            break;
        case LMTP_END:
            on_end(s);
            break;
        case LMTP_RESET:
            end_transaction(s);
            break;
        case LMTP_CLOSE:
            return false;
        }
    }
}

static bool
flush(struct serving *s)
{
    struct buf *out = &s->lmtp.out;
    bool ok = out->len == 0 || stream_write(s->c->stream, out->at, out->len,
                                            clock_boot_ms(s->c->env->clock) +
                                                WRITE_MS) == STREAM_OK;

    buf_clear(out);
    return ok;
}

void
connection_serve(struct connection *c)
{
    struct serving s = {.c = c};
    char input[READ_MAX];
    bool going = true;

    lmtp_init(&s.lmtp, c->env->hostname);
    while (going && flush(&s)) {
        enum stream_result result;
        size_t n = 0;

        if (atomic_load(&c->env->stopping) && s.relay == NULL) {
            buf_add_text(&s.lmtp.out, "421 4.3.2 Shutting down\r\n");
            break;
        }
        set_deadline(&s);
        result = now_ms(&s) >= s.deadline_ms
                     ? STREAM_ETIMEOUT
                     : stream_read(c->stream, input, sizeof input,
                                   s.deadline_ms, &n);
        if (result == STREAM_ETIMEOUT)
            buf_add_text(&s.lmtp.out, "421 4.4.2 Timeout\r\n");
        if (result != STREAM_OK)
            break;
        going = lmtp_feed(&s.lmtp, input, n) && work(&s);
    }
    flush(&s);
    end_transaction(&s);
    lmtp_free(&s.lmtp);
}
