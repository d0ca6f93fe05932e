/* milter/ctl/maillog.h - one line of a Postfix mail log, as an event.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure: text in, values out, no allocation.  A log holds what strangers said
 * to an MTA, so nothing in a line is trusted; what an event holds may have
 * any octet in it, and a line of another shape is MAILLOG_OTHER.
 *
 * Sources: postlogd(8) and syslog's two time stamps (RFC 3164 4.1.2, which
 * has no year, and RFC 3339), and what Postfix 3.7 writes.
 */
#ifndef CTL_MAILLOG_H
#define CTL_MAILLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/slice.h"

enum maillog_kind {
    MAILLOG_OTHER = 0,  /* of another program, or of no use to us */
    MAILLOG_CLIENT,     /* smtpd: a client began a message */
    MAILLOG_LOCAL,      /* pickup: the sendmail command did */
    MAILLOG_MESSAGE_ID, /* cleanup */
    MAILLOG_QUEUED,     /* qmgr: sender, size, number of recipients */
    MAILLOG_DELIVERY,   /* any delivery agent, for one recipient */
    MAILLOG_REMOVED,    /* qmgr: the message has left the queue */
};

struct maillog_event {
    enum maillog_kind kind;
    int64_t at_s;  /* the time stamp read as UTC */
    bool has_zone; /* ... and it was; false: some place's local time */
    struct slice queue_id;
    /* CLIENT */
    struct slice client_name, client_address; /* "unknown"; without "[]" */
    struct slice auth;                        /* SASL login; empty = none */
    bool passed_on; /* came from another queue file: a content filter */
    /* MESSAGE_ID: as written, with its <> */
    struct slice message_id;
    /* QUEUED: without <>, empty = the null sender */
    struct slice sender;
    uint64_t size_octets;
    uint64_t n_recipients;
    /* DELIVERY: without <>; original is empty when no alias was expanded */
    struct slice recipient, original, status;
};

/* What one log's lines share: the year, which RFC 3164 leaves out. */
struct maillog {
    int year;  /* of the next line without one */
    int month; /* of the last such line, 1..12; 0 = none yet */
};

/* Reads one line, without its end.  False: it has no time stamp, or none that
 * exists; *ret is untouched then.  The event borrows from the line. */
bool maillog_line(struct maillog *m, struct slice line,
                  struct maillog_event *ret);

#endif
