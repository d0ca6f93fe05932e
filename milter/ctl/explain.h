/* milter/ctl/explain.h - what gmroutectl explain found out, and how it tells.
 * SPDX-License-Identifier: Apache-2.0
 *
 * explain.c decides and asks admission; explain_facts.c makes facts of the
 * options and the message; explain_text.c and explain_json.c tell.
 */
#ifndef CTL_EXPLAIN_H
#define CTL_EXPLAIN_H

#include "milter/ctl/ctl.h"
#include "milter/ctl/message_file.h"
#include "milter/state/admit.h"
#include "policy/decide.h"
#include "policy/mime.h"

enum { EXPLAIN_WORDS_MAX = 1000 /* recipients, macros */ };

/* What the policy says at RCPT, before the message is there. */
struct early {
    enum action action; /* REJECT, DEFER or UNKNOWN */
    const char *rule, *reply;
    struct loc at;
};

/* One recipient. */
struct told {
    struct slice recipient;
    struct early early;
    struct decision decision;   /* at the stage that is asked about */
    struct told *group;         /* the first recipient of its transaction */
    struct cost cost;           /* of the transaction; the group's first */
    struct admission admission; /* the group's first */
    enum action action;         /* after admission */
    const char *reply;
    bool shown; /* with another one that is just so */
};

struct explain {
    const char *message; /* path, "-" or NULL */
    bool at_rcpt, all, has_size;
    size_t n_recipients, n_macros, n_rcpt_macros;
    struct slice recipient[EXPLAIN_WORDS_MAX];
    struct facts_pair macro[EXPLAIN_WORDS_MAX];
    struct facts_pair rcpt_macro[EXPLAIN_WORDS_MAX];
    struct facts facts; /* at FACTS_EOM */
    struct message_file file;
    struct mime *mime;
    struct policy *policy;
    struct scratch *scratch;
    struct admit_env env;
    uint64_t now_ms;     /* the clock's, for the windows of the accounts */
    struct trace trace;  /* of explain_trace() */
    struct told *told;   /* one for each recipient */
    const char *refusal; /* the message as a whole is refused; or NULL */
};

/* ---- explain_facts.c ---- */

/* Reads the words of the command line; NULL, or what is wrong with them. */
const char *explain_options(struct explain *x, int argc, char **argv);

/* Reads the message and completes the facts.  False with a sentence. */
bool explain_facts(struct explain *x, char *err, size_t err_size);

/* ---- explain.c ---- */

/* Why the rules before the one that decided did not: fills in x->trace for
 * this recipient.  False = out of memory. */
bool explain_trace(struct explain *x, const struct told *t);

/* Did the rule of this line only look on?  Then it is among the shadows. */
bool explain_is_shadow(const struct told *t, const struct why *w);

/* One candidate alone. */
struct tried {
    bool taken;    /* it is the one that admission takes */
    char why[240]; /* of one that was passed by, or would wait */
    struct quota_view quota;
    bool has_quota;
    const char *token; /* "ok", "not needed", "unknown", ... */
};
void explain_candidate(struct explain *x, const struct told *t, unsigned i,
                       struct tried *ret);

/* ---- explain_text.c, explain_json.c ---- */

bool explain_text(struct explain *x);    /* false = out of memory */
json_t *explain_json(struct explain *x); /* NULL = out of memory */

#endif
