/* milter/ctl/doctor.h - what is wrong with an MTA and a host: facts, checks,
 * findings.
 * SPDX-License-Identifier: Apache-2.0
 *
 * What was read is data (struct doctor_case); a check is a row of a table and
 * a pure function from that data to findings.  The doctor_look files alone
 * touch the machine.
 */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "milter/ctl/postconf.h"
#include "milter/ctl/sendmail_cf.h"
#include "policy/policy.h"
#include "policy/ticket.h"

/* ---- what was read: the MTA's tables ---- */

struct map_answer {        /* of one table that is asked for recipients */
    const char *parameter; /* "transport_maps" */
    const char *map;       /* "hash:/etc/postfix/transport" */
    const char *err;       /* it cannot be asked; NULL = it was */
    bool is_pattern;       /* pcre or regexp */
    const char *queue[TICKET_QUEUES];   /* what it says of ".qNN.TAG" */
    const char *below, *bare, *address; /* of ".TAG", "TAG" and a tagged
                                         * address as a whole */
};

struct own_domain { /* that the MTA takes for its own, and mta_domains lack */
    const char *parameter;
    const char *domain;
    bool is_alias; /* an address of it is a virtual alias */
};

/* ---- what was read: the host ---- */

struct file_fact {
    const char *path;
    int error; /* of lstat(2); 0 = it is there */
    bool is_link, is_directory;
    const char *leads_to; /* of a link */
    unsigned mode;        /* permission bits, of what a link leads to */
    uid_t uid;
    int64_t changed_s; /* Unix time */
};

struct socket_fact {
    const char *listen;               /* as configured */
    const char *what;                 /* "milter", "agent" */
    struct file_fact file, directory; /* of a unix socket */
    /* A directory on the way, or the socket, that the MTA's user may not pass;
     * NULL = it gets there, or cannot be told. */
    const char *blocked_at;
    bool others_may;          /* everybody of this host can connect */
    const char *world_parent; /* a directory above that others may write */
    int listens;              /* 1 yes, 0 no, -1 cannot tell */
    const char *why;
};

struct space_fact { /* of a file system */
    const char *what, *path;
    int error; /* errno; 0 = known */
    bool is_tmpfs;
    uint64_t free, size; /* octets, for others than root */
    uint64_t free_files, files;
};

struct secret_fact {     /* a file with a secret */
    const char *account; /* or OAuth client */
    struct file_fact file;
    uid_t reader;    /* of the daemon that reads it */
    bool has_reader; /* it runs, so that we know */
};

struct host_fact { /* a name that must be resolved */
    const char *what, *name;
    const char *err; /* NULL = it can be */
};

struct ca_fact {
    const char *what;       /* the smarthost, client or account */
    const char *configured; /* a path, or "system" */
    const char *path;
    const char *err; /* NULL = there are certificates in it */
};

struct token_fact {
    const char *identity;
    unsigned state; /* enum token_state */
    const char *error;
};

struct daemon_fact {
    const char *program;
    bool up;
    const char *why; /* it is not */
};

struct doctor_host {
    const char *mta_user; /* who connects to our sockets */
    bool mta_user_exists;
    struct socket_fact socket[2];          /* the milter's, the agent's */
    struct file_fact label[TICKET_QUEUES]; /* links of the agent's socket */
    struct daemon_fact daemon[2];
    struct file_fact state, ledger;
    struct space_fact space[3]; /* state, runtime, the MTA's queue */
    struct file_fact runtime;
    uid_t agent; /* user of the agent that runs */
    bool has_agent;
    const char *keys_err; /* NULL = the ticket keys are good, or none yet */
    size_t n_keys, n_secrets, n_hosts, n_cas, n_tokens;
    struct file_fact *keys; /* newest first */
    struct secret_fact *secrets;
    struct host_fact *hosts;
    struct ca_fact *cas;
    struct token_fact *tokens;
    bool has_skew;  /* the token daemon has measured it */
    int64_t skew_s; /* the endpoint's clock less ours */
    bool clock_unsynchronised;
    int64_t now_s; /* Unix time */
};

/* ---- a case ---- */

struct doctor_case {
    struct arena *arena; /* for the texts of findings */
    const struct policy *policy;
    const char *config;                       /* -c */
    const struct mta_settings *mta;           /* NULL: not Postfix */
    const struct sendmail_settings *sendmail; /* NULL: not Sendmail */
    const char
        *report_program; /* of its mailer gmclean; NULL = there is none */
    int report_error;    /* it cannot be run; 0 = it can */
    size_t n_maps, n_domains;
    struct map_answer *maps;
    struct own_domain *domains;
    struct map_answer cleaner; /* body_checks of gmclean; `address`: what it
                                * makes of a line with a tagged address;
                                * map NULL = there is none */
    const struct doctor_host *host; /* NULL: --mta-only */
};

/* ---- findings ---- */

enum severity { SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_NOTE };

struct doctor_check;

struct finding {
    const struct doctor_check *check;
    const char *what;
    const char *remedy; /* lines */
    bool is_command;    /* each line of it can be given to a shell */
};

struct findings {
    struct arena *arena;
    const struct doctor_check *check; /* whose turn it is */
    size_t n, room;
    struct finding *at;
    bool nomem;
};

struct doctor_check {
    const char *name;
    enum severity severity;
    void (*look)(const struct doctor_case *k, struct findings *f);
    const char *why; /* it matters */
};

/* One more finding of the check whose turn it is; then its remedy, line by
 * line: commands, or what a person is to do. */
void found(struct findings *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void mend(struct findings *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void advise(struct findings *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Commands that mend a Postfix: its directory is named where it must be. */
void mend_main(const struct doctor_case *k, struct findings *f,
               const char *name, const char *value);
void mend_override(const struct doctor_case *k, struct findings *f,
                   const char *service, const char *name, const char *value);
void mend_field(const struct doctor_case *k, struct findings *f,
                const char *service, const char *field, const char *value);
void mend_apply(const struct doctor_case *k, struct findings *f);

/* What two MTAs share. */
void doctor_own_domains(const struct doctor_case *k, struct findings *f);
/* Does an account ask for the SASL login? */
bool doctor_needs_login(const struct policy *p);
/* The account for which mail may wait longest; NULL = there are none. */
const struct account *doctor_longest_wait(const struct policy *p);

/* The tables of checks, NULL-terminated by name. */
extern const struct doctor_check doctor_main_checks[];     /* main.cf */
extern const struct doctor_check doctor_filter_checks[];   /* milters */
extern const struct doctor_check doctor_master_checks[];   /* master.cf */
extern const struct doctor_check doctor_table_checks[];    /* tables */
extern const struct doctor_check doctor_sendmail_checks[]; /* sendmail.cf */
extern const struct doctor_check doctor_host_checks[];

/* Runs the tables that apply to this case.  False = out of memory. */
bool doctor_examine(const struct doctor_case *k, struct findings *ret);

/* ---- looking ---- */

/* Asks Postfix's tables, and reads those that are text.  False = out of
 * memory. */
bool doctor_look_maps(struct doctor_case *k);
/* The domains of Sendmail's class w. */
bool doctor_look_class_w(struct doctor_case *k);

struct look;
/* The host and the daemons.  NULL = out of memory. */
const struct doctor_host *doctor_look_host(const struct doctor_case *k,
                                           const struct look *l,
                                           const char *queue_directory);

#endif
