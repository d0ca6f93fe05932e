/* policy/compile.h - from a tree to a policy.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/: what compile*.c share.  Every function that reads a
 * part goes on after an error, so that one run shows all of them, and returns
 * false when there was one.
 *
 * ---- the canonical text of a plan ----
 *
 * A ticket names a plan by the first four octets of the SHA-256 of this text
 * (big-endian; 1 in place of 0), which is the same on every host and in every
 * later version:
 *
 *     plan 1 LF
 *     from keep|rewrite|require LF
 *     share 1..100 LF
 *     then a line for each step, the route first:
 *     account <identity of struct mailbox; a template's with its "*"> LF
 *     pool <pick> <weight> <identity> [<weight> <identity> ...] LF
 *     mta LF
 *     wait LF
 *     defer <reply> LF
 *     reject <reply> LF
 *
 * Names of rules, accounts and pools are not in it: renaming changes no
 * ticket.  Two plans of one policy with the same number are an error.
 */
#ifndef POLICY_COMPILE_H
#define POLICY_COMPILE_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/arena.h"
#include "policy/policy.h"
#include "policy/rule.h"
#include "policy/schema.h"
#include "policy/suggest.h"
#include "policy/table.h"
#include "policy/tree.h"

struct compile {
    struct policy *p;
    struct arena *arena;   /* the policy's */
    struct arena *scratch; /* gone when all is compiled */
    struct diag *diag;
    const struct policy_files *files;
    bool nomem;
    /* Names to objects.  A section that could not be read at all leaves
     * "lost" set, so that its names are not called unknown as well. */
    struct table *smarthosts, *clients, *accounts, *pools, *lists;
    bool smarthosts_lost, clients_lost, accounts_lost, pools_lost, lists_lost;
    bool rules_lost;
    struct table *identities; /* of accounts -> struct account */
    struct table *rule_names; /* -> struct rule */
    struct table *plans;      /* canonical text -> struct plan */
    struct table *macros;     /* names that conditions ask for -> themselves */
    struct table *zones;      /* names -> struct named_zone, also bad ones */
    const struct named_zone *timezone; /* of the whole; NULL = the host's */
    const struct named_zone *host_zone;
    size_t n_lists;
    struct pattern_list *list;
};

/* ---- memory; NULL: c->nomem is set ---- */

void *compile_alloc(struct compile *c, size_t n, size_t size);
char *compile_copy(struct compile *c, struct slice s);
char *compile_lower(struct compile *c, struct slice s);
bool compile_nomem(struct compile *c); /* sets it; always false */

/* ---- compile.c ---- */

/* A name given to an account, a list, ...: 1..63 of [A-Za-z0-9_.-]. */
bool compile_check_name(struct compile *c, const struct node *key);

/* What `name` stands for; NULL: an error with a suggestion was recorded
 * (unless lost). */
void *compile_find(struct compile *c, const struct table *t, bool lost,
                   const char *what, const struct node *name);

/* The items of a list; one item that is no list counts as a list of one. */
struct items {
    size_t n;
    const struct node *list, *single; /* one of them is NULL */
};
struct items compile_items(const struct node *n);
const struct node *compile_item(const struct items *items, size_t i);

/* Is it a scalar with something in it? */
bool compile_is_text(const struct node *n);

/* Is there a line break or control character in it? */
bool compile_has_control(struct slice s);

/* A place as a message about another place names it: "line 5", or
 * "conf.d/a.yaml:5" when that is in another file. */
struct place {
    char text[100];
};
struct place compile_place(struct loc here, struct loc there);

/* ---- compile_include.c ---- */

extern const struct schema_type compile_include; /* (nothing) */

/* The tree with all that it includes; `octets` is the size of the main file.
 * Errors are in the diag.  NULL = out of memory. */
struct node *compile_include_all(struct compile *c, struct node *root,
                                 size_t octets);

/* Of a path, with the last slash; empty when it has none. */
struct slice compile_directory(const char *file);

/* ---- compile_net.c: hosts, networks, endpoints ---- */

extern const struct schema_type compile_domain;   /* (const char *) */
extern const struct schema_type compile_domains;  /* (struct texts) */
extern const struct schema_type compile_host;     /* name or address */
extern const struct schema_type compile_endpoint; /* "address:port" */
extern const struct schema_type compile_networks; /* (struct networks) */
extern const struct schema_type compile_https;    /* URL */
extern const struct schema_type compile_milter_listen, compile_lmtp_listen;

struct texts {
    size_t n;
    const char **text;
};

struct networks {
    size_t n;
    struct network *network;
};

/* What is wrong with a domain ("x.y", and ".x.y" when dot); NULL = nothing. */
const char *compile_domain_error(struct slice s, bool dot);

/* The same of one that may have U-labels; *ret is a copy in lower case with
 * A-labels in their place (NULL: an error, or no memory). */
const char *compile_domain_text(struct compile *c, struct slice s, bool dot,
                                char **ret);

enum network_result {
    NETWORK_OK = 0,
    NETWORK_ENOT,  /* not an address */
    NETWORK_EBITS, /* the prefix length */
    NETWORK_EHOST, /* bits behind the prefix are set */
};
/* "192.0.2.1", "2001:db8::/32". */
enum network_result compile_network(struct slice s, struct network *ret);
bool compile_read_network(struct compile *c, const char *key,
                          const struct node *n, struct network *ret);

/* ---- compile_lines.c: list, map and login files ---- */

struct line_of_file {
    struct slice text; /* trimmed, not empty, no comment */
    struct loc at;
};

struct lines {
    size_t n;
    struct line_of_file *line; /* in c->scratch */
};

/* Where one is in a file.  A copy, made quiet, counts without a word. */
struct line_reader {
    struct compile *c;
    const char *path;
    struct slice rest;
    unsigned number; /* lines taken */
    bool quiet;      /* errors are for somebody else to record */
};

/* Opens the file that the node names. */
bool compile_open_lines(struct compile *c, const char *key,
                        const struct node *name, struct line_reader *ret);

/* The next entry; false at the end.  A bad line is an error in the diag and
 * left out, so that the others are checked, too.  The text lies in the file,
 * with no NUL behind it. */
bool compile_next_line(struct line_reader *r, struct line_of_file *ret);

/* All of them. */
bool compile_read_lines(struct compile *c, const char *key,
                        const struct node *name, struct lines *ret);

/* ---- compile_hosts.c ---- */

extern const struct schema_type compile_smarthosts, compile_clients;
extern const struct schema compile_smarthost_schema, compile_client_schema;
bool compile_builtin_smarthosts(struct compile *c); /* before all else */

/* ---- compile_alert.c ---- */

extern const struct schema_type compile_alert;
extern const struct schema compile_alert_schema;

/* ---- compile_accounts.c, compile_auth.c, compile_trust.c ---- */

extern const struct schema_type compile_accounts;
extern const struct schema compile_account_schema;

extern const struct schema_type compile_auth; /* (const struct node *) */
extern const struct schema compile_auth_schema;
bool compile_read_auth(struct compile *c, const struct node *n,
                       struct account *a);

extern const struct schema_type compile_trust; /* (const struct node *) */
extern const struct schema compile_trust_schema, compile_map_schema;
bool compile_read_trust(struct compile *c, const struct node *n,
                        struct account *a);
bool compile_read_map(struct compile *c, const struct node *n,
                      struct account *a);

/* An address of ours: both parts, no literal, ASCII once the domain has
 * A-labels.  What is wrong with it, or NULL; then *ret is a copy with a
 * lower-case domain (NULL: no memory). */
const char *compile_address(struct compile *c, struct slice s, char **ret);

/* Keeps the node for later, for values that depend on others. */
bool compile_keep(struct compile *c, const struct schema_row *row,
                  const struct node *n, void *field);

/* ---- compile_quota.c ---- */

extern const struct schema_type compile_quota; /* (const struct node *) */
extern const struct schema compile_quota_schema;
/* n NULL: the default of the account's smarthost. */
bool compile_read_quota(struct compile *c, const struct node *n,
                        struct account *a);

/* ---- compile_lists.c ---- */

extern const struct schema_type compile_lists;
extern const struct schema compile_list_schema;
void compile_warn_unused_lists(struct compile *c);

/* ---- compile_pattern.c ---- */

/* Which texts make sense, and what a plain one is. */
enum pattern_use {
    USE_ADDRESS,
    USE_DOMAIN,
    USE_CLIENT,
    USE_HELO,
    USE_LOGIN,
    USE_HEADER,
    USE_LIST, /* an entry of a list: any of these */
};

/* An address or a domain with A-labels in place of U-labels; as it is when it
 * has none.  False = out of memory. */
bool compile_a_labels(struct compile *c, struct slice s, struct slice *ret);

bool compile_pattern(struct compile *c, const char *key, enum pattern_use use,
                     const struct node *n, struct pattern *ret);

/* ---- compile_match.c ---- */

/* The keys of `match`, for lists of all keys; NULL behind the last. */
const char *compile_match_key(size_t i);

extern const struct schema_type compile_match; /* (struct condition) */

/* RFC 5322 2.2: printable ASCII but the colon. */
bool compile_is_field_name(struct slice s);

/* ---- compile_edits.c ---- */

/* What add_header and remove_header (either may be NULL) come to; *ret is set
 * when there is one. */
bool compile_edits(struct compile *c, const struct node *add,
                   const struct node *remove, const struct header_edits **ret);

/* ---- compile_order.c ---- */

/* Sorts the children of every "all" and "not" by what they cost, cheap ones
 * first, those of equal cost as they were: all that is known at RCPT comes
 * before whatever looks into the message. */
bool compile_order(struct compile *c, struct condition *root);

/* ---- compile_time.c ---- */

extern const struct schema_type compile_timezone; /* into c->timezone */

/* `time`, and the `timezone` beside it (NULL = none). */
bool compile_read_time(struct compile *c, const struct node *n,
                       const struct node *zone, struct condition *ret);

/* ---- compile_rules.c, compile_plan.c, compile_check.c ---- */

extern const struct schema_type compile_pools, compile_rules, compile_default;
extern const struct schema compile_pool_schema, compile_rule_schema;

/* One form of `route`, or an entry of `otherwise`. */
bool compile_step(struct compile *c, const char *key, bool otherwise,
                  const struct node *n, struct step *ret);

/* A reply of the class ('4' or '5'); the text as it is kept, or NULL. */
const char *compile_reply(struct compile *c, const char *key, char klass,
                          const struct node *n);

/* The plan that does just this, shared with others that do the same.
 * NULL: an error was recorded. */
const struct plan *compile_plan(struct compile *c, struct loc at,
                                const struct plan *like);
bool compile_sort_plans(struct compile *c);

/* ---- compile_warn.c ---- */

/* What nothing uses; routes that never apply. */
void compile_warn(struct compile *c);

/* ---- compile_unreachable.c ---- */

/* Warns of rules that no message gets to; after the index. */
void compile_check_unreachable(struct compile *c);

/* ---- compile_check.c ---- */

/* Is there an account in it that anybody may use? */
bool compile_serves_everybody(const struct plan *plan);

/* Late refusals; what the milter must ask the MTA for. */
void compile_check_rules(struct compile *c);

/* ---- compile_proof.c ---- */

extern const struct schema_type compile_proofs;
extern const struct schema compile_proof_schema; /* of each of them */

#endif
