/* tests/unit/deliver/liar.h - an SMTP server in threads that does as it is
 * told, wrong things too.
 * SPDX-License-Identifier: Apache-2.0
 *
 * TLS from the first octet (or STARTTLS), on a port of 127.0.0.1, with a
 * certificate for "smtp.example" by a CA made on the spot.  Set the knobs
 * before the connection they are meant for; the counts can be read any time.
 */
#ifndef TEST_LIAR_H
#define TEST_LIAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/base/tls_peer.h"

enum { LIAR_TEXT = 200 };

struct liar {
    uint16_t port;
    char ca_file[64];
    /* Knobs. */
    bool starttls;
    const char *_Atomic greeting;    /* NULL = 220 */
    const char *_Atomic login;       /* the one good response; NULL = any */
    const char *_Atomic login_reply; /* instead of 235, to any response */
    atomic_int die_at_mail; /* this many times: ends in order at MAIL */
    atomic_int die_at_end;  /* this many times: ends before the last reply */
    atomic_bool end_after_message; /* ends in order after each message */
    atomic_bool refuse_and_leave;  /* 552 to MAIL at once, reads no more */
    atomic_int final_delay_ms;
    atomic_int rcpts_max; /* of a transaction, then 452 4.5.3; 0 = any number */
    const char *_Atomic final; /* instead of 250 after the content */
    /* Counts. */
    atomic_int connections, open, most_open, logins, refused, messages, quits,
        octets, rcpts;
    /* Inside. */
    int listener;
    SSL_CTX *ctx;
    struct cert ca, cert;
    pthread_t thread;
    atomic_int running;
    atomic_bool stop;
};

/* name NULL = "smtp.example".  Ends the program when it cannot. */
void liar_start(struct liar *l, const char *name);
void liar_stop(struct liar *l);

#endif
