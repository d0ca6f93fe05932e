/* tests/fuzz/fuzz_smtp_client.c - a hostile server talks to our SMTP client.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Octet 0 sets the stage: bits 0-1 the login, bit 2 STARTTLS, bit 3 skips the
 * login by a polite one, bit 4 careful, bits 5-7 how the server's words are
 * cut.  The rest are its words, '|' where it lets us speak.
 *
 * Whatever it says: we end in a state with a name, never say MAIL before 235
 * when there is a login, never a secret before TLS, and every recipient of a
 * transaction that has ended has a result; "sent" only when the whole content
 * was on the wire.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/deliver/pool.h"
#include "milter/deliver/smtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RCPTS = 3, UNTOUCHED = 0x5a5a };

static const char content[] = "A: b\r\n\r\n.dot\r\nend\r\n";

struct play {
    struct smtp *m;
    const struct smtp_options *o;
    struct letter_result ret[RCPTS];
    size_t given; /* octets of content */
    bool whole;   /* all of it was looked at */
    bool tls, begun, careful;
};

static void
check(bool good)
{
    if (!good)
        abort();
}

static bool
says(struct slice out, const char *word)
{
    return memmem(out.at, out.len, word, strlen(word)) != NULL;
}

static void
look(struct play *p)
{
    struct slice out = smtp_output(p->m);

    check(out.len > 0);
    check(p->tls || !says(out, "AUTH"));
    check(p->begun || !says(out, "MAIL FROM"));
    if (p->begun && p->given == sizeof content - 1)
        p->whole = true;
    smtp_written(p->m);
}

static void
begin(struct play *p)
{
    static const char *const rcpt[RCPTS] = {"a@x", "b@x", "c@x"};
    struct smtp_envelope e = {"s@x", RCPTS, rcpt,      sizeof content - 1,
                              false, false, p->careful};

    for (size_t i = 0; i < RCPTS; i++)
        p->ret[i].reply.code = UNTOUCHED;
    p->given = 0;
    p->whole = false;
    p->begun = true;
    if (!smtp_begin(p->m, &e, p->ret))
        for (size_t i = 0; i < RCPTS; i++)
            check(p->ret[i].verdict.kind == OUTCOME_REFUSED);
}

static void
check_results(struct play *p)
{
    for (size_t i = 0; i < RCPTS; i++) {
        check(p->ret[i].reply.code != UNTOUCHED);
        check(p->ret[i].verdict.meaning != NULL);
        if (p->ret[i].verdict.kind == OUTCOME_SENT)
            check(p->whole && p->ret[i].reply.code / 100 == 2 &&
                  p->ret[i].stage == STAGE_CONTENT);
        if (p->ret[i].verdict.kind == OUTCOME_IN_DOUBT)
            check(p->whole);
    }
    p->begun = false;
}

static void
speak(struct play *p)
{
    for (int rounds = 0; rounds < 10000; rounds++) {
        size_t left = sizeof content - 1 - p->given;

        if (p->begun &&
            (smtp_state(p->m) == SMTP_READY || smtp_state(p->m) == SMTP_DEAD) &&
            smtp_want(p->m) == SMTP_WANT_NOTHING)
            check_results(p);
        switch (smtp_want(p->m)) {
        case SMTP_WANT_CONTENT:
            left = left > 5 ? 5 : left;
            if (left == 0)
                smtp_content_end(p->m);
            else
                smtp_content(p->m, content + p->given, left);
            p->given += left;
            break;
        case SMTP_WANT_WRITE:
            look(p);
            break;
        case SMTP_WANT_TLS:
            p->tls = true;
            smtp_tls_done(p->m);
            break;
        case SMTP_WANT_READ:
            return;
        case SMTP_WANT_NOTHING:
            if (smtp_state(p->m) == SMTP_DEAD)
                return;
            begin(p);
            if (!p->begun || smtp_want(p->m) == SMTP_WANT_NOTHING)
                return;
            break;
        }
    }
    abort(); /* it would never end */
}

static void
listen_to(struct play *p, const uint8_t *data, size_t size, size_t step)
{
    while (size > 0 && smtp_state(p->m) != SMTP_DEAD) {
        const uint8_t *bar = memchr(data, '|', size);
        size_t n = bar != NULL ? (size_t)(bar - data) : size;
        char *copy;

        if (n == 0) {
            data++;
            size--;
            speak(p);
            continue;
        }
        n = n < step ? n : step;
        copy = malloc(n); /* exactly: a read past it is seen */
        check(copy != NULL);
        memcpy(copy, data, n);
        smtp_input(p->m, copy, n);
        free(copy);
        data += n;
        size -= n;
        if (step < 100)
            speak(p);
    }
    speak(p);
}

static void
polite_login(struct play *p)
{
    static const char *const words[] = {
        "220 x\r\n",
        "250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n"
        "250 AUTH PLAIN XOAUTH2\r\n",
        "220 go\r\n",
        "250-x\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 AUTH PLAIN "
        "XOAUTH2\r\n",
        "235 ok\r\n"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (i == 2 && !p->o->starttls)
            i = p->o->login == SMTP_LOGIN_NONE ? 5 : 4;
        if (i == 4 && p->o->login == SMTP_LOGIN_NONE)
            break;
        if (i < 5)
            smtp_input(p->m, words[i], strlen(words[i]));
        speak(p);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t knobs = size > 0 ? data[0] : 0;
    struct smtp_options o = {
        .hostname = "h.example",
        .starttls = (knobs & 4) != 0,
        .login = (enum smtp_login)(knobs & 3) % 3,
        .sasl = {"a@example.com", SLICE_LIT("secret"), "h", 465},
    };
    struct play p = {.o = &o, .tls = !o.starttls, .careful = (knobs & 16) != 0};
    static const size_t steps[] = {1, 2, 3, 7, 50, 1000, 5000, 100000};

    p.m = smtp_new(&o);
    check(p.m != NULL);
    speak(&p);
    if (knobs & 8)
        polite_login(&p);
    if (size > 1)
        listen_to(&p, data + 1, size - 1, steps[knobs >> 5]);
    smtp_lost(p.m, (knobs & 1) != 0, "the end");
    check(smtp_state(p.m) == SMTP_DEAD);
    if (p.begun)
        check_results(&p);
    smtp_free(p.m);
    return 0;
}
