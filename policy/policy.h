/* policy/policy.h - the whole configuration, compiled: settings, accounts,
 * rules.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Immutable after policy_compile(); lives in one arena and is freed whole.
 * Any thread may read it.  Who holds it for longer than a call holds a
 * counted snapshot (milter/base/conf.h).
 *
 * Every string is NUL-terminated, owned by the policy.  Addresses are stored
 * with a lower-case domain; the local part keeps its case, but compares
 * without it (Gmail and every policy reader treat it so).  Durations are in
 * milliseconds, sizes in octets.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"
#include "policy/slice.h"

/* ---- where mail goes: smarthosts and accounts ---- */

enum smarthost_tls {
    SMARTHOST_TLS_IMPLICIT, /* RFC 8314 3.3, port 465 */
    SMARTHOST_TLS_STARTTLS, /* RFC 3207, port 587 */
};

struct smarthost {
    const char *name;
    struct loc at;
    const char *host;    /* also SNI and the name verified */
    const char *connect; /* host name or address to connect to; NULL = host */
    uint16_t port;
    enum smarthost_tls tls;
    const char *ca_file; /* PEM, absolute path; NULL = the system's store */
    const char *imap,
        *pop; /* "host:port", for gmroutectl verify; NULL = none */
};

/* Whose client: what its URLs and scope are when they are not given. */
enum oauth_provider {
    OAUTH_PROVIDER_GOOGLE,
    OAUTH_PROVIDER_MICROSOFT,
};

struct oauth_client {
    const char *name;
    struct loc at;
    enum oauth_provider provider;
    const char *tenant; /* Microsoft: of the URLs; NULL = Google */
    const char *client_id;
    const char *client_secret_file; /* absolute path; NULL = public client */
    const char *auth_url;           /* https only; where a person logs in */
    const char *token_url;          /* https only */
    const char *connect; /* "address:port" to connect to; NULL = the URL's */
    const char *scope;   /* what a person is asked to allow */
    bool testing; /* Google: the consent screen is in Testing mode, in which
                   * refresh tokens end after seven days */
    const char *ca_file; /* absolute path; NULL = the system's store */
};

/* Whom to tell when an account needs somebody.  Words are a program and its
 * arguments, NULL at the end. */
struct alerts {
    char **command;   /* NULL = none */
    const char *mail; /* recipient; NULL = none */
    char **sendmail;
    uint64_t timeout_ms, interval_ms;
    unsigned quota_percent;
};

enum auth_kind {
    AUTH_NONE,            /* relay by address */
    AUTH_PASSWORD,        /* app password, AUTH PLAIN */
    AUTH_REFRESH_TOKEN,   /* OAuth2 refresh-token grant, AUTH XOAUTH2 */
    AUTH_SERVICE_ACCOUNT, /* JWT-bearer grant, sub = the address */
};

/* What a limit counts.  Stored in the ledger and the quota segment by
 * number: only add at the end. */
enum dimension {
    DIM_MESSAGES,            /* transactions sent to Gmail */
    DIM_RECIPIENTS,          /* RCPT commands of them */
    DIM_EXTERNAL_RECIPIENTS, /* those outside internal_domains */
    DIM_BYTES,               /* octets of content as sent */
    DIM_PACE,                /* messages again, a short smoothing window */
    DIM_UNIQUE_RECIPIENTS,   /* different recipients */
    DIM_UNIQUE_EXTERNAL_RECIPIENTS,
    DIM_COUNT,
};

const char *dimension_name(enum dimension d);

static inline bool
dimension_is_unique(enum dimension d)
{
    return d == DIM_UNIQUE_RECIPIENTS || d == DIM_UNIQUE_EXTERNAL_RECIPIENTS;
}

/* "max per window": at most `max` units in any span of window_ms. */
struct limit {
    enum dimension dimension;
    uint64_t max;
    uint64_t window_ms;
};

enum { LIMITS_MAX = 12 /* windows an account can have */ };

struct quota_limits {
    unsigned n;
    struct limit limit[LIMITS_MAX];
    uint32_t recipients_per_message; /* 1..; default 100 */
};

/* Who may use an account (design: trust). */
struct trust {
    bool any;
    bool login;      /* the SASL login is the sender's address */
    bool local;      /* the sendmail(1) command of this host */
    size_t n_logins; /* from logins: FILE; lower case, sorted, each once */
    const char **logins;
    size_t n_clients; /* networks */
    struct network *clients;
};

struct network {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;       /* 0..128 */
};

struct address_pair { /* an entry of an account's map file */
    const char *alias, *mailbox;
};

struct account {
    const char *name;
    struct loc at;
    uint64_t id;         /* of its mailbox; 0 for a template */
    const char *address; /* "sales@example.com", or "*@example.com" */
    bool is_template;    /* the address begins with '*' */
    const char *domain;  /* after the @ */
    const struct smarthost *smarthost;
    enum auth_kind auth;
    const struct oauth_client *client; /* AUTH_REFRESH_TOKEN, else NULL */
    const char *secret_file;   /* password, refresh token or key; absolute */
    const char *token_url;     /* AUTH_SERVICE_ACCOUNT: overrides the key's
                              * token_uri; NULL = that one */
    const char *token_connect; /* "address:port"; NULL = the URL's */
    const char *token_ca_file; /* NULL = the system's store */
    size_t n_send_as;
    const char **send_as;   /* addresses, or "@domain" */
    bool mail_from_account; /* MAIL FROM is the account's address */
    struct quota_limits quota;
    uint64_t max_wait_ms;
    struct {
        unsigned max; /* logged-in sessions at once */
        uint64_t idle_ms, age_ms;
        unsigned messages; /* transactions for each session */
    } sessions;
    struct trust trust;
    size_t n_map; /* sorted by alias, without case */
    struct address_pair *map;
};

enum { MAILBOX_MAX = 254 /* octets of an address: RFC 5321 4.5.3.1.3 */ };

/* A concrete account: a named one, or a template filled in.
 *
 * `identity` is the address in lower case, with "/smarthost" behind it when
 * the smarthost is not "gmail".  `id` is the first 8 octets (big-endian) of
 * its SHA-256, never 0: the key of every shared-memory slot and ledger row. */
struct mailbox {
    const struct account *account; /* borrowed from the policy */
    uint64_t id;
    char address[MAILBOX_MAX + 1]; /* login and identity */
};

enum { IDENTITY_MAX = MAILBOX_MAX + 1 + 63 };

/* Writes the identity of (address, smarthost) into ret, NUL-terminated, and
 * returns its id.  0, which is nobody's id, only when libcrypto has no
 * memory. */
uint64_t mailbox_identity(const char *address, const char *smarthost,
                          char ret[IDENTITY_MAX + 1]);

/* The identity alone, for whoever knows the id; returns its octets.  What is
 * too long is cut. */
size_t mailbox_identity_text(const char *address, const char *smarthost,
                             char ret[IDENTITY_MAX + 1]);

/* Who a recipient is, for what counts different ones: a hash of its canonical
 * spelling (address.h), without case also in the local part.  0 only when
 * libcrypto has no memory. */
uint64_t recipient_hash(const char *canonical);

/* ---- the forms of `route` ---- */

enum step_kind {
    STEP_ACCOUNT,
    STEP_POOL,
    STEP_MTA,
    STEP_WAIT,
    STEP_DEFER,
    STEP_REJECT,
};

enum pool_pick {
    PICK_MOST_ROOM,
    PICK_ROUND_ROBIN,
    PICK_WEIGHTED,
    PICK_BY_SENDER
};

struct pool {
    const char *name;
    struct loc at;
    enum pool_pick pick;
    size_t n;
    struct {
        const struct account *account;
        unsigned weight; /* 1.. */
    } * member;
};

struct step {
    enum step_kind kind;
    const struct account *account; /* STEP_ACCOUNT */
    const struct pool *pool;       /* STEP_POOL */
    const char *reply; /* STEP_DEFER, STEP_REJECT: "451 4.7.1 text" */
};

enum from_handling { FROM_KEEP, FROM_REWRITE, FROM_REQUIRE };

/* What a rule does, as the ticket names it: by `hash`, the first 4 octets of
 * a SHA-256 over the canonical text of all that follows.  Two rules that do
 * the same share a plan. */
struct plan {
    uint32_t hash; /* never 0 */
    unsigned n;    /* steps, 1..; the first is the route itself */
    struct step *step;
    unsigned share_percent; /* 1..100; 100 = the whole limit */
    enum from_handling from;
};

/* ---- settings ---- */

enum untaggable { UNTAGGABLE_MTA, UNTAGGABLE_REJECT, UNTAGGABLE_DEFER };

struct proof; /* policy/proof.h */
struct rule;  /* policy/rule.h, for compile, match and decide alone */

struct policy {
    const char *file;     /* the main configuration file */
    const char *hostname; /* EHLO name; NULL = this host's FQDN */
    size_t n_mta_domains, n_internal_domains;
    const char **mta_domains; /* "x" alone or ".x" any subdomain */
    const char **internal_domains;
    enum untaggable untaggable;
    bool unparseable_reject;
    struct {
        const char *listen; /* libmilter's syntax */
        const char *tag_domain;
        size_t n_reinject_from;
        struct network *reinject_from;
    } milter;
    struct {
        const char *listen;       /* "unix:/path" or "inet:port@host" */
        unsigned connections_max; /* LMTP connections at once */
        unsigned sessions_max;    /* kept open, all accounts together */
    } deliver;
    struct {
        const char *directory, *runtime;
        uint32_t accounts;          /* slots */
        uint32_t unique_recipients; /* remembered, of all accounts */
    } state;
    struct alerts alert; /* neither command nor mail: nobody is told */
    size_t n_smarthosts, n_clients, n_accounts, n_pools, n_rules, n_plans;
    struct smarthost *smarthosts;
    struct oauth_client *clients;
    struct account *accounts;
    struct pool *pools;
    struct rule *rules; /* in order; the default is not among them */
    const struct plan *default_plan;
    struct loc default_at; /* of `default:`; line 0 = not given */
    struct plan **plans;   /* sorted by hash */
    unsigned needs;        /* POLICY_NEEDS_*, POLICY_EDITS_*: what decisions can
                     * look at and what they can change */
    size_t n_macros; /* names that `macro` conditions ask for, without braces,
                      * each once */
    const char **macros;
    size_t n_proofs; /* the policy's own tests (policy/proof.h) */
    struct proof *proofs;
    struct arena *arena;        /* owns all of the above */
    struct policy_index *index; /* the look-ups below; NULL = they search */
};

/* What the loaded rules can look at, so that the milter asks the MTA for no
 * more (an MTA's protocol steps cost: see milter/filter). */
enum {
    POLICY_NEEDS_HELO = 1 << 0,
    /* A rule or the default may refuse at RCPT (perhaps, not certainly). */
    POLICY_NEEDS_RCPT_REPLY = 1 << 1,
    /* from, from_domain, header, kind auto or bulk; `from: require`; or
     * remove_header. */
    POLICY_NEEDS_HEADERS = 1 << 2,
    POLICY_NEEDS_BODY = 1 << 3, /* attachment; HEADERS is set as well */
    /* The exact size: the milter counts it from the header and body events,
     * though neither HEADERS nor BODY need be set. */
    POLICY_NEEDS_SIZE = 1 << 4,
    POLICY_NEEDS_MACROS = 1 << 5, /* see `macros` */
    POLICY_EDITS_HEADER = 1 << 6, /* add_header, remove_header */
    POLICY_EDITS_HOLD = 1 << 7,   /* hold */
};

/* How the compiler reads other files (includes, lists, maps).  The text is
 * owned by the caller of policy_compile until it returns; on failure
 * read_file writes a reason into err and returns false. */
struct policy_files {
    bool (*read_file)(void *cookie, const char *path, const char **ret_text,
                      size_t *ret_len, char *err, size_t err_size);
    /* The paths that a pattern with * ? [] stands for, sorted by octets, each
     * of them absolute when the pattern is; a backslash takes the meaning
     * from what follows it; none is no error.  Owned as the text above is.
     * NULL = cannot. */
    bool (*glob)(void *cookie, const char *pattern, const char *const **ret,
                 size_t *ret_n, char *err, size_t err_size);
    void *cookie;
};

/* Compiles YAML text.  Relative paths are taken from the directory of `file`,
 * so they come out absolute when `file` is.
 *
 * Returns the policy, or NULL when `d` holds at least one error; warnings may
 * be in `d` in either case.  `d` is emptied first.  Out of memory is an
 * error at line 0.  Neither the policy nor `d` borrow from the arguments. */
struct policy *policy_compile(const char *text, size_t len, const char *file,
                              const struct policy_files *files, struct diag *d);

void policy_free(struct policy *p);

/* Is this recipient domain one the MTA delivers itself (mta_domains)? */
bool policy_is_mta_domain(const struct policy *p, struct slice domain);
bool policy_is_internal_domain(const struct policy *p, struct slice domain);

const struct account *policy_account(const struct policy *p, const char *name);

/* The account that an identity (struct mailbox) belongs to: a named account,
 * else the template of its domain and smarthost.  Returns false when the
 * policy has none. */
bool policy_mailbox(const struct policy *p, const char *identity,
                    struct mailbox *ret);

/* The named account with that mailbox id; false when there is none.
 * (Templates have an id only when filled in.) */
bool policy_mailbox_by_id(const struct policy *p, uint64_t id,
                          struct mailbox *ret);

/* NULL when no rule of this policy has that plan (any more). */
const struct plan *policy_plan(const struct policy *p, uint32_t hash);

#endif
