/* milter/token/https.h - one POST over HTTPS, with a deadline: the seam that
 * tests replace.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_HTTPS_H
#define TOKEN_HTTPS_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/buf.h"

enum { HTTPS_BODY_MAX = 64 * 1024 };

struct https_request {
    const char *url;     /* https only */
    const char *connect; /* "address:port" to connect to; NULL = the URL's */
    const char *ca_file; /* NULL = the system's store */
    const char *form;    /* body, application/x-www-form-urlencoded */
    size_t form_len;
    unsigned timeout_ms;
};

struct https_answer {
    unsigned status; /* 0 = none arrived; `error` says why */
    struct buf body; /* may hold secrets: https_answer_free wipes */
    int64_t date_s;  /* of the Date header, Unix time; 0 = none */
    char error[160]; /* a sentence, without the request's content */
};

void https_start(void); /* once, before threads */

/* Blocks; any thread. */
void https_post(const struct https_request *q, struct https_answer *ret);
void https_answer_free(struct https_answer *a);

#endif
