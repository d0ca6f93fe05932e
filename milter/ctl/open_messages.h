/* milter/ctl/open_messages.h - the messages of a log that are still in the
 * queue, by queue id.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bounded by its user, who drops the oldest: a log may never say that a
 * message is gone.
 */
#ifndef CTL_OPEN_MESSAGES_H
#define CTL_OPEN_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/facts.h"

enum {
    OPEN_ID_MAX = 20,
    OPEN_RECIPIENTS_MAX = 10000, /* of one message; more are not replayed */
};

struct open_recipient {
    struct open_recipient *next;
    const char *went; /* by what, as the report calls it; not owned */
    uint32_t hash;
    bool decided;
    char address[];
};

struct open_message {
    struct open_message *next, *older, *newer; /* private */
    int64_t at_s;                              /* Unix time: when it came */
    bool began;                                /* its beginning is in the log */
    bool again; /* it came back from a content filter */
    bool local, queued;
    struct facts_client client;
    /* owned; NULL = none */
    char *client_name, *auth, *sender, *message_id;
    uint64_t size_octets, n_recipients;
    size_t n; /* different recipients seen */
    struct open_recipient *first, *last;
    size_t octets; /* of all its texts */
    char id[OPEN_ID_MAX + 1];
};

struct open_messages;

struct open_messages *open_messages_new(void); /* NULL = out of memory */
void open_messages_free(struct open_messages *o);

struct open_message *open_messages_find(struct open_messages *o,
                                        struct slice id);
/* id: at most OPEN_ID_MAX octets, not there yet.  NULL = out of memory. */
struct open_message *open_messages_add(struct open_messages *o, struct slice id,
                                       int64_t at_s);
void open_messages_remove(struct open_messages *o, struct open_message *m);

/* NULL = none. */
struct open_message *open_messages_oldest(struct open_messages *o);
size_t open_messages_count(const struct open_messages *o);
size_t open_messages_octets(const struct open_messages *o);

/* Sets one of a message's texts; a control in it becomes '?'.  False = out of
 * memory. */
bool open_message_text(struct open_messages *o, struct open_message *m,
                       char **field, struct slice text);

/* Adds a recipient unless it is there; without case.  False = out of memory,
 * or over OPEN_RECIPIENTS_MAX. */
bool open_message_recipient(struct open_messages *o, struct open_message *m,
                            struct slice address, const char *went);

#endif
