/* policy/facts.h - all that a rule may look at.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plain data, borrowed; filled by the milter's session, by `gmroutectl
 * explain` or by a test.  What is not known yet at `stage` is not looked at:
 * a condition on it answers "not known yet".
 */
#ifndef POLICY_FACTS_H
#define POLICY_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

enum facts_stage {
    FACTS_RCPT, /* connection, HELO, MAIL, one RCPT */
    FACTS_LOG,  /* what a mail log tells: that, and `size_octets`,
                 * `n_recipients` and the Message-ID, alone in `header`; no
                 * client at all: not known either */
    FACTS_EOM,  /* everything */
};

struct facts_pair {     /* a header field or a macro, in order of arrival */
    struct slice name;  /* a macro's without braces */
    struct slice value; /* a header's raw, folded as received */
};

struct facts_client {
    bool known;          /* false: no address (local submission, unix) */
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    struct slice name;   /* verified host name; "" or "unknown" = none */
};

struct facts {
    enum facts_stage stage;
    int64_t now_s; /* Unix time when MAIL arrived */
    bool local;    /* the sendmail(1) command, not SMTP */
    bool tls;      /* the client spoke TLS */
    struct facts_client client;
    struct slice helo;
    struct slice auth;   /* SASL login; empty = none */
    struct slice sender; /* without <>; empty = the null sender */
    /* Of the connection and the message; one that is not there may still come,
     * before FACTS_EOM. */
    size_t n_macros;
    const struct facts_pair *macro;
    /* Of this RCPT alone ("rcpt_addr", ...): looked at before the others. */
    size_t n_rcpt_macros;
    const struct facts_pair *rcpt_macro;

    /* From here on known at FACTS_EOM only (but see FACTS_LOG). */
    size_t n_headers;
    const struct facts_pair *header;
    uint64_t size_octets; /* headers and body, line ends as two octets */
    size_t n_recipients;
    /* File names in the MIME structure (policy/mime.h), decoded; filled in
     * when the policy has POLICY_NEEDS_BODY. */
    size_t n_attachments;
    const struct slice *attachment;
    bool attachments_cut; /* there may be more: the structure was not read to
                           * its end */
};

#endif
