/* policy/compile_pattern.c - one text of `match` or of a list.
 * SPDX-License-Identifier: Apache-2.0
 *
 * How struct pattern says it:
 *
 *     sender: "<>"          EXACT "<>", the null sender
 *     auth: "*"             GLOB "*", any login (never none)
 *     auth: ""              EXACT "", no login
 *     192.0.2.1, 10.0.0.0/8 NETWORK (client, and entries of lists)
 *     .example.com          DOMAIN for keys about domains and clients; in a
 *                           list EXACT, which those keys read the same way
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "policy/compile.h"

#include <pcre2.h>

#include "policy/address.h"
#include "policy/idn.h"

enum { REGEX_OCTETS_MAX = 4096 };

/* ---- /.../ ---- */

static void
free_code(void *code)
{
    pcre2_code_free(code);
}

/* Without case; UTF-8, where values that are not UTF-8 are searched all the
 * same.  Without the JIT it only runs slower. */
static bool
compile_regex(struct compile *c, const char *key, const struct node *n,
              struct pattern *ret)
{
    struct slice s = {n->text.at + 1, n->text.len - 2};
    uint32_t options = PCRE2_CASELESS | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
                       PCRE2_NEVER_BACKSLASH_C;
    PCRE2_UCHAR why[120] = "";
    pcre2_code *code;
    size_t offset = 0;
    int error = 0;

    if (s.len == 0)
        return diag_error(c->diag, n->at, "%s: the expression // is empty",
                          key);
    if (s.len > REGEX_OCTETS_MAX)
        return diag_error(c->diag, n->at,
                          "%s: the expression is longer than %d octets", key,
                          REGEX_OCTETS_MAX);
    code =
        pcre2_compile((PCRE2_SPTR)s.at, s.len, options, &error, &offset, NULL);
    if (code == NULL && error == PCRE2_ERROR_NOMEMORY)
        return compile_nomem(c);
    if (code == NULL) {
        pcre2_get_error_message(error, why, sizeof why);
        return diag_error(c->diag, n->at,
                          "%s: expression %s: %s, after %zu octets", key,
                          node_show(n).text, (const char *)why, offset);
    }
    if (!arena_cleanup(c->arena, free_code, code)) {
        pcre2_code_free(code);
        return compile_nomem(c);
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    ret->kind = PATTERN_REGEX;
    ret->regex = code;
    ret->text = compile_copy(c, n->text);
    return ret->text != NULL;
}

/* ---- plain texts ---- */

static const struct {
    const char *null_help; /* "": what to write in its place; NULL = allowed */
    bool domains;          /* a plain text is a domain */
    bool networks;         /* or perhaps a network */
    bool addresses;        /* or an address */
} uses[] = {
    [USE_ADDRESS] = {"want an address (the null sender is \"<>\")",
                     .addresses = true},
    [USE_DOMAIN] = {"want a domain", .domains = true},
    [USE_CLIENT] = {"want an address, a network or a host name",
                    .domains = true, .networks = true},
    [USE_HELO] = {"want a host name (no name at all is not: {helo: \"*\"})",
                  .domains = true},
    [USE_LOGIN] = {.null_help = NULL},
    [USE_HEADER] = {.null_help = NULL},
    [USE_LIST] = {"an empty entry", .networks = true},
};

static bool
has_glob(struct slice s)
{
    return memchr(s.at, '*', s.len) != NULL || memchr(s.at, '?', s.len) != NULL;
}

/* The domain of an address, or all of a text that has no @. */
static struct slice
domain_part(struct slice s)
{
    const char *at = s.len > 0 ? memrchr(s.at, '@', s.len) : NULL;

    return at != NULL ? slice_from(s, (size_t)(at - s.at) + 1) : s;
}

bool
compile_a_labels(struct compile *c, struct slice s, struct slice *ret)
{
    enum { ROOM = 4096 };
    bool address = s.len > 0 && memchr(s.at, '@', s.len) != NULL;
    char room[ROOM];
    enum idn_result r = address ? idn_address(s, room, sizeof room, &s.len)
                                : idn_domain(s, room, sizeof room, &s.len);

    if (r == IDN_ENOMEM)
        return compile_nomem(c);
    *ret = s;
    if (r == IDN_SAME)
        return true;
    ret->at = compile_copy(c, (struct slice){room, s.len});
    return ret->at != NULL;
}

static bool
check_network(struct compile *c, const char *key, const struct node *n,
              struct pattern *ret, bool *ret_done)
{
    enum network_result r = compile_network(n->text, &ret->network);

    *ret_done = r != NETWORK_ENOT;
    if (r == NETWORK_ENOT)
        return true;
    ret->kind = PATTERN_NETWORK;
    return r == NETWORK_OK ||
           compile_read_network(c, key, n, &ret->network); /* says why */
}

static bool
check_address(struct compile *c, const char *key, const struct node *n)
{
    struct address a;

    if (slice_eq(n->text, SLICE_LIT("<>")))
        return true;
    if (!address_parse(n->text, &a))
        return diag_error(c->diag, n->at, "%s: %s is not an address", key,
                          node_show(n).text);
    if (a.domain.len == 0)
        diag_warning(c->diag, n->at,
                     "%s: %s has no @: it matches only an address without a "
                     "domain%s",
                     key, node_show(n).text,
                     memchr(n->text.at, '.', n->text.len) != NULL
                         ? " (a domain is asked for by the keys that end in "
                           "_domain)"
                         : "");
    return true;
}

/* "[192.0.2.1]": who has no name says his address (RFC 5321 4.1.3). */
static bool
is_literal(struct slice s)
{
    return s.len > 2 && s.at[0] == '[' && s.at[s.len - 1] == ']';
}

static bool
check_plain(struct compile *c, const char *key, enum pattern_use use,
            const struct node *n, struct slice s)
{
    const char *error;

    if (uses[use].domains) {
        error = has_glob(s) || (use == USE_HELO && is_literal(s))
                    ? NULL
                    : compile_domain_error(s, true);
        if (error != NULL)
            return diag_error(c->diag, n->at, "%s: %s %s", key,
                              node_show(n).text, error);
    }
    if (uses[use].addresses || uses[use].domains) {
        if (!has_glob(s) && !idn_is_ascii(domain_part(s)))
            return diag_error(c->diag, n->at,
                              "%s: the domain of %s is not one that IDNA "
                              "allows",
                              key, node_show(n).text);
    }
    return !uses[use].addresses || has_glob(s) || check_address(c, key, n);
}

static bool
compile_plain(struct compile *c, const char *key, enum pattern_use use,
              const struct node *n, struct pattern *ret)
{
    struct slice s = n->text;
    bool done = false;

    if (uses[use].networks && s.len > 0) {
        bool ok = check_network(c, key, n, ret, &done);

        if (!ok)
            return false;
    }
    if (!done) {
        if (uses[use].domains && s.len > 1 && s.at[s.len - 1] == '.')
            s.len--;
        /* Where it can only be a domain, or ends in one. */
        if ((uses[use].domains || uses[use].addresses ||
             (use == USE_LIST && has_glob(s) &&
              memchr(s.at, '@', s.len) != NULL)) &&
            !compile_a_labels(c, s, &s))
            return false;
        if (!check_plain(c, key, use, n, s))
            return false;
        ret->kind = has_glob(s)         ? PATTERN_GLOB
                    : uses[use].domains ? PATTERN_DOMAIN
                                        : PATTERN_EXACT;
    }
    ret->text = compile_lower(c, s);
    return ret->text != NULL;
}

/* ---- list: NAME ---- */

static bool
use_list(struct compile *c, const struct node *name, struct pattern *ret)
{
    struct pattern_list *list =
        compile_find(c, c->lists, c->lists_lost, "a list", name);

    if (list == NULL)
        return false;
    list->used = true;
    ret->kind = PATTERN_LIST;
    ret->list = list;
    ret->text = list->name;
    return true;
}

static bool
compile_list_use(struct compile *c, const char *key, enum pattern_use use,
                 const struct node *n, struct pattern *ret)
{
    struct node name = *n;

    if (use == USE_LIST)
        return diag_error(c->diag, n->at, "%s: a list cannot hold a list", key);
    if (n->kind == NODE_MAP) {
        if (n->n != 1 || !slice_eq(n->key[0]->text, SLICE_LIT("list")))
            return diag_error(c->diag, n->at, "%s: want a text or {list: NAME}",
                              key);
        return use_list(c, n->item[0], ret);
    }
    name.text = slice_trim(slice_from(n->text, sizeof "list:" - 1));
    return use_list(c, &name, ret);
}

bool
compile_pattern(struct compile *c, const char *key, enum pattern_use use,
                const struct node *n, struct pattern *ret)
{
    struct slice s = n->text;

    if (n->kind == NODE_MAP ||
        (n->kind == NODE_SCALAR && slice_starts(s, "list:")))
        return compile_list_use(c, key, use, n, ret);
    if (n->kind != NODE_SCALAR || (!n->quoted && s.len == 0))
        return diag_error(c->diag, n->at, "%s: want a text, found %s%s", key,
                          node_show(n).text,
                          use == USE_LOGIN && n->kind == NODE_SCALAR
                              ? "; no login is \"\""
                              : "");
    if (s.len == 0 && uses[use].null_help != NULL)
        return diag_error(c->diag, n->at, "%s: found \"\": %s", key,
                          uses[use].null_help);
    if (s.len >= 2 && s.at[0] == '/' && s.at[s.len - 1] == '/')
        return compile_regex(c, key, n, ret);
    return compile_plain(c, key, use, n, ret);
}
