/* tests/fuzz/fuzz_lmtp.c - what an MTA says to the agent, or something else
 * does.
 * SPDX-License-Identifier: Apache-2.0
 *
 * However the octets are cut, the events, paths, content and replies are the
 * same; no path holds what could end a command line; the machine never asks
 * for more while it could go on, and its buffers stay bounded.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/deliver/lmtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    struct buf text; /* events and content */
    struct buf replies;
    bool closed;
};

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
take_path(struct heard *h, const struct lmtp *l, const char *event)
{
    for (size_t i = 0; i < l->path.len; i++) {
        unsigned char c = (unsigned char)l->path.at[i];

        check(c >= ' ' && c != 0x7f);
    }
    buf_add_text(&h->text, event);
    buf_add(&h->text, l->path.at, l->path.len);
    buf_add_text(&h->text, l->smtputf8 ? "U" : "-");
    buf_add_text(&h->text, l->body_8bit ? "8" : "7");
    buf_add_text(&h->text, l->ident);
}

/* Refuses some, so that each way is gone. */
static const char *
answer_to(const struct lmtp *l)
{
    return l->path.len % 5 == 4 ? "451 4.3.0 later" : "250 2.0.0 OK";
}

static void
work(struct lmtp *l, struct heard *h)
{
    for (;;) {
        enum lmtp_event e = lmtp_next(l);

        check(l->n_recipients <= LMTP_RECIPIENTS_MAX);
        switch (e) {
        case LMTP_MAIL:
        case LMTP_RCPT:
            take_path(h, l, e == LMTP_MAIL ? "\nM" : "\nR");
            lmtp_answer(l, answer_to(l));
            break;
        case LMTP_DATA:
            check(l->has_mail && l->n_recipients > 0);
            lmtp_answer(l, "354 go");
            check(lmtp_in_content(l));
            buf_add_text(&h->text, "\nD");
            break;
        case LMTP_CONTENT:
            check(l->content.len > 0);
            buf_add(&h->text, l->content.at, l->content.len);
            break;
        case LMTP_END:
            for (unsigned i = 0, n = l->n_recipients; i < n; i++)
                lmtp_answer(l, "250 2.0.0 sent");
            lmtp_end(l);
            buf_add_text(&h->text, "\nE");
            break;
        case LMTP_RESET:
            buf_add_text(&h->text, "\nX");
            break;
        default:
            buf_add(&h->replies, l->out.at, l->out.len);
            buf_clear(&l->out);
            h->closed = e == LMTP_CLOSE;
            return;
        }
    }
}

static void
play(const uint8_t *data, size_t size, size_t step, struct heard *h)
{
    struct lmtp l;

    *h = (struct heard){.closed = false};
    buf_init(&h->text, 1 << 24);
    buf_init(&h->replies, 1 << 24);
    lmtp_init(&l, "relay.test");
    work(&l, h);
    for (size_t at = 0; at < size && !h->closed;) {
        size_t n = step < size - at ? step : size - at;

        check(lmtp_feed(&l, data + at, n));
        work(&l, h);
        at += n;
    }
    lmtp_free(&l);
}

static void
check_same(const struct buf *a, const struct buf *b)
{
    check(a->len == b->len);
    check(a->len == 0 || memcmp(a->at, b->at, a->len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, cut;

    if (size < 1 || size > 32 * 1024)
        return 0;
    play(data + 1, size - 1, size, &whole);
    play(data + 1, size - 1, data[0] % 64 + 1u, &cut);
    check_same(&whole.text, &cut.text);
    check_same(&whole.replies, &cut.replies);
    check(whole.closed == cut.closed);
    buf_free(&whole.text);
    buf_free(&whole.replies);
    buf_free(&cut.text);
    buf_free(&cut.replies);
    return 0;
}
