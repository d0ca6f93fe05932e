/* milter/oauth/https.h - one POST over HTTPS, with a deadline: the seam that
 * tests replace.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_HTTPS_H
#define TOKEN_HTTPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "milter/base/buf.h"

enum { HTTPS_BODY_MAX = 64 * 1024 };

struct https_request {
    const char *url;     /* https only */
    const char *connect; /* "address:port" to connect to; NULL = the URL's,
                          * through https_proxy of the environment if set */
    const char *ca_file; /* alone is trusted; NULL = the system's store */
    const char *form;    /* body, application/x-www-form-urlencoded */
    size_t form_len;
    unsigned timeout_ms;     /* for everything together */
    const atomic_bool *stop; /* true: gives up within about a second; NULL =
                              * never */
};

struct https_answer {
    unsigned status;       /* 0 = none arrived whole; `error` says why */
    struct buf body;       /* may hold secrets: https_answer_free wipes */
    int64_t date_s;        /* of the Date header, Unix time; 0 = none */
    int64_t retry_after_s; /* of the Retry-After header; 0 = none */
    char error[160];       /* a sentence, without the request's content */
};

/* Once, before threads; memory of libcurl is wiped from then on (wipe.h). */
bool https_start(void);

/* Hangs up; no request may be under way. */
void https_stop(void);

/* Blocks; any thread.  Redirects are not followed.  The connection stays open
 * for the next one.  A request that one which stayed open turned out to be too
 * old for is made again on a new one. */
void https_post(const struct https_request *q, struct https_answer *ret);
void https_answer_free(struct https_answer *a);

#endif
