/* policy/compile_net.c - domains, hosts, networks, endpoints, URLs.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "policy/scalar.h"

enum {
    DOMAIN_MAX = 253, /* octets: RFC 1035 2.3.4, without the last dot */
    LABEL_OCTETS = 63,
    SOCKET_PATH_MAX = 107, /* sun_path of Linux, without the NUL */
};

/* ---- domains ---- */

const char *
compile_domain_error(struct slice s, bool dot)
{
    size_t label = 0;

    if (dot && s.len > 0 && s.at[0] == '.')
        s = slice_from(s, 1);
    if (s.len == 0)
        return "is empty";
    if (s.len > DOMAIN_MAX)
        return "is longer than 253 octets";
    for (size_t i = 0; i < s.len; i++) {
        char l = slice_lower(s.at[i]);

        if ((unsigned char)l >= 0x80)
            return "is not a domain name that IDNA allows";
        if (l == '*' || l == '?')
            return "has a * or ?: write .example.com for all below "
                   "example.com";
        if (l == '@')
            return "is an address: want a domain";
        if (l == '.' && label == 0)
            return "has an empty label";
        if (l != '.' && !(l >= 'a' && l <= 'z') && !(l >= '0' && l <= '9') &&
            l != '-' && l != '_')
            return "is not a domain";
        label = l == '.' ? 0 : label + 1;
        if (label > LABEL_OCTETS)
            return "has a label longer than 63 octets";
    }
    return label == 0 ? "has an empty label" : NULL;
}

const char *
compile_domain_text(struct compile *c, struct slice s, bool dot, char **ret)
{
    const char *error;

    *ret = NULL;
    if (!compile_a_labels(c, s, &s))
        return NULL;
    error = compile_domain_error(s, dot);
    if (error == NULL)
        *ret = compile_lower(c, s);
    return error;
}

/* Lower case, A-labels, without the last dot. */
static bool
read_domain_text(struct compile *c, const char *key, bool dot,
                 const struct node *n, const char **ret)
{
    struct slice s = n->text;
    const char *error;
    char *copy;

    if (!compile_is_text(n))
        return diag_error(c->diag, n->at, "%s: want a domain, found %s", key,
                          node_show(n).text);
    if (s.len > 1 && s.at[s.len - 1] == '.')
        s.len--;
    error = compile_domain_text(c, s, dot, &copy);
    if (error != NULL)
        return diag_error(c->diag, n->at, "%s: %s %s", key, node_show(n).text,
                          error);
    if (copy != NULL)
        *ret = copy;
    return copy != NULL;
}

static bool
read_domain(struct compile *c, const struct schema_row *row,
            const struct node *n, void *field)
{
    const char *text;

    if (!read_domain_text(c, row->key, false, n, &text))
        return false;
    memcpy(field, &text, sizeof text);
    return true;
}

const struct schema_type compile_domain = {"a domain", read_domain};

static bool
read_domains(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    struct items items = compile_items(n);
    struct texts texts = {.n = 0};
    bool ok = true;

    if (n->kind == NODE_MAP || node_is_null(n))
        return schema_mismatch(c, row, n);
    texts.text = compile_alloc(c, items.n, sizeof *texts.text);
    if (texts.text == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        if (read_domain_text(c, row->key, true, compile_item(&items, i),
                             &texts.text[texts.n]))
            texts.n++;
        else
            ok = false;
    memcpy(field, &texts, sizeof texts);
    return ok;
}

const struct schema_type compile_domains = {
    "a list of domains (\".x\" is any subdomain of x)", read_domains};

/* ---- networks ---- */

static bool
parse_address(const char *text, uint8_t ret[16], bool *ret_ipv4)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    *ret_ipv4 = inet_pton(AF_INET, text, ret + 12) == 1;
    if (*ret_ipv4)
        memcpy(ret, mapped, sizeof mapped);
    return *ret_ipv4 || inet_pton(AF_INET6, text, ret) == 1;
}

enum network_result
compile_network(struct slice s, struct network *ret)
{
    const char *slash = s.len > 0 ? memchr(s.at, '/', s.len) : NULL;
    size_t len = slash != NULL ? (size_t)(slash - s.at) : s.len;
    char text[INET6_ADDRSTRLEN + 1];
    struct network net = {.bits = 128};
    uint64_t bits = 0;
    bool ipv4;

    if (len == 0 || len >= sizeof text)
        return NETWORK_ENOT;
    memcpy(text, s.at, len);
    text[len] = '\0';
    if (!parse_address(text, net.address, &ipv4))
        return NETWORK_ENOT;
    if (slash != NULL) {
        if (scalar_number(slice_from(s, len + 1), &bits) != SCALAR_OK ||
            bits > (ipv4 ? 32 : 128))
            return NETWORK_EBITS;
        net.bits = (unsigned)bits + (ipv4 ? 96 : 0);
    }
    for (unsigned i = net.bits; i < 128; i++)
        if (net.address[i / 8] & 0x80 >> i % 8)
            return NETWORK_EHOST;
    *ret = net;
    return NETWORK_OK;
}

bool
compile_read_network(struct compile *c, const char *key, const struct node *n,
                     struct network *ret)
{
    static const char *const error[] = {
        [NETWORK_OK] = NULL,
        [NETWORK_ENOT] = "is not an address or network",
        [NETWORK_EBITS] = "has no prefix length of 0..32 (IPv4) or 0..128",
        [NETWORK_EHOST] = "has bits set behind its prefix",
    };
    enum network_result r = NETWORK_ENOT;

    if (compile_is_text(n))
        r = compile_network(n->text, ret);
    if (r == NETWORK_OK)
        return true;
    return diag_error(c->diag, n->at, "%s: %s %s", key, node_show(n).text,
                      error[r]);
}

static bool
read_networks(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    struct items items = compile_items(n);
    struct networks nets = {.n = 0};
    bool ok = true;

    if (n->kind == NODE_MAP || node_is_null(n))
        return schema_mismatch(c, row, n);
    nets.network = compile_alloc(c, items.n, sizeof *nets.network);
    if (nets.network == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        if (compile_read_network(c, row->key, compile_item(&items, i),
                                 &nets.network[nets.n]))
            nets.n++;
        else
            ok = false;
    memcpy(field, &nets, sizeof nets);
    return ok;
}

const struct schema_type compile_networks = {"a list of addresses and networks",
                                             read_networks};

/* ---- hosts and ports ---- */

static bool
is_host(struct slice s)
{
    struct network net;

    return (memchr(s.at, '/', s.len) == NULL &&
            compile_network(s, &net) == NETWORK_OK) ||
           compile_domain_error(s, false) == NULL;
}

static bool
is_port(struct slice s)
{
    uint64_t port = 0;

    return scalar_number(s, &port) == SCALAR_OK && port >= 1 && port <= 65535;
}

/* A text that `good` likes. */
static bool
read_checked(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field, bool (*good)(struct slice s))
{
    const char *copy;

    if (!compile_is_text(n) || !good(n->text))
        return schema_mismatch(c, row, n);
    copy = compile_copy(c, n->text);
    memcpy(field, &copy, sizeof copy);
    return copy != NULL;
}

static bool
read_host(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    return read_checked(c, row, n, field, is_host);
}

const struct schema_type compile_host = {"a host name or address", read_host};

/* "host:port" or "[v6]:port" */
static bool
is_endpoint(struct slice s)
{
    const char *colon = memrchr(s.at, ':', s.len);
    struct slice host;

    if (colon == NULL || colon == s.at)
        return false;
    host = (struct slice){s.at, (size_t)(colon - s.at)};
    if (!is_port(slice_from(s, host.len + 1)))
        return false;
    if (host.at[0] == '[') {
        if (host.len < 3 || host.at[host.len - 1] != ']')
            return false;
        host = (struct slice){host.at + 1, host.len - 2};
    } else if (memchr(host.at, ':', host.len) != NULL) {
        return false;
    }
    return is_host(host);
}

static bool
read_endpoint(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    return read_checked(c, row, n, field, is_endpoint);
}

const struct schema_type compile_endpoint = {"address:port", read_endpoint};

/* ---- sockets ---- */

static bool
is_unix_path(struct slice s)
{
    return s.len > 1 && s.len <= SOCKET_PATH_MAX && s.at[0] == '/';
}

/* "port@host"; the host may be left out where that is allowed. */
static bool
is_port_at_host(struct slice s, bool host_needed)
{
    const char *at = s.len > 0 ? memchr(s.at, '@', s.len) : NULL;
    struct slice port = s, host;

    if (at == NULL)
        return !host_needed && is_port(s);
    port.len = (size_t)(at - s.at);
    host = slice_from(s, port.len + 1);
    if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        host = (struct slice){host.at + 1, host.len - 2};
    return is_port(port) && host.len > 0 && is_host(host);
}

static bool
is_milter_listen(struct slice s)
{
    if (slice_starts(s, "unix:"))
        return is_unix_path(slice_from(s, 5));
    if (slice_starts(s, "local:"))
        return is_unix_path(slice_from(s, 6));
    if (slice_starts(s, "inet:"))
        return is_port_at_host(slice_from(s, 5), false);
    if (slice_starts(s, "inet6:"))
        return is_port_at_host(slice_from(s, 6), false);
    return is_unix_path(s);
}

static bool
read_milter_listen(struct compile *c, const struct schema_row *row,
                   const struct node *n, void *field)
{
    return read_checked(c, row, n, field, is_milter_listen);
}

const struct schema_type compile_milter_listen = {
    "unix:/path, inet:port@host or inet6:port@host (a path of at most 107 "
    "octets)",
    read_milter_listen};

/* Who reaches this socket can send: no address stands for "all of them". */
static bool
is_lmtp_listen(struct slice s)
{
    if (slice_starts(s, "unix:"))
        return is_unix_path(slice_from(s, 5));
    return slice_starts(s, "inet:") && is_port_at_host(slice_from(s, 5), true);
}

static bool
read_lmtp_listen(struct compile *c, const struct schema_row *row,
                 const struct node *n, void *field)
{
    return read_checked(c, row, n, field, is_lmtp_listen);
}

const struct schema_type compile_lmtp_listen = {
    "unix:/path or inet:port@host (a path of at most 107 octets)",
    read_lmtp_listen};

/* ---- URLs ---- */

static bool
is_https(struct slice s)
{
    struct slice host;
    size_t end = 0;

    if (!slice_starts(s, "https://"))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] >= 0x7F ||
            strchr("\"<>\\^`{|}#", s.at[i]) != NULL)
            return false;
    host = slice_from(s, 8);
    while (end < host.len && strchr("/?", host.at[end]) == NULL)
        end++;
    host.len = end;
    return host.len > 0 && (is_endpoint(host) || is_host(host));
}

static bool
read_https(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    return read_checked(c, row, n, field, is_https);
}

const struct schema_type compile_https = {"an https:// URL", read_https};
