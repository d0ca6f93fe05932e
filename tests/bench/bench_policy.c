/* tests/bench/bench_policy.c - see bench_policy.h
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/bench/bench_policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- policies ---- */

static const char head[] =
    "gmroute: 1\n"
    "mta_domains: [local.example, .lan.example]\n"
    "accounts:\n"
    "  sales: {address: sales@example.com, auth: {password_file: s},\n"
    "          quota: workspace}\n"
    "  news: {address: news@gmail.com, auth: {password_file: n},\n"
    "         quota: gmail}\n"
    "  staff: {address: '*@example.com', auth: {password_file: t},\n"
    "          quota: workspace}\n"
    "pools: {bulk: {accounts: [news, sales], pick: most_room}}\n"
    "rules:\n";

/* %zu is the rule's number, and %2$zu that by 256, %3$zu the rest. */
static const char *const rules[] = {
    "  - {match: {sender: person%1$zu@partner.example}, route: {account: "
    "sales}}\n",
    "  - {match: {sender_domain: d%1$zu.example, recipient_domain: "
    "far.example},"
    " route: mta}\n",
    "  - {match: {sender: user%1$zu@example.com, auth: '*', size: '<= 25MB'}, "
    "route: {account: staff}, otherwise: [{account: news}, wait]}\n",
    "  - {match: {recipient: [nobody%1$zu@far.example, none%1$zu@far.example]},"
    " reject: 550 5.7.1 no such person}\n",
    "  - {name: net %1$zu, match: {client: 10.%2$zu.%3$zu.0/24}, defer: 451 "
    "4.7.1 not now}\n",
    "  - {match: {from: '*@f%1$zu.example'}, route: {pool: bulk}}\n",
    "  - {name: to customer %1$zu, match: {recipient_domain: .c%1$zu.example},"
    " route: {account: news}}\n",
    "  - {match: {sender_domain: example.org, recipient: r%1$zu@far.example,"
    " header: {X-Kind: report}}, route: mta}\n",
};

enum { KINDS = sizeof rules / sizeof *rules, RULE_OCTETS = 256 };

char *
bench_policy_yaml(size_t n, size_t *ret_len)
{
    size_t size = sizeof head + n * RULE_OCTETS, len;
    char *yaml = malloc(size);

    if (yaml == NULL)
        return NULL;
    len = (size_t)snprintf(yaml, size, "%s", head);
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(yaml + len, size - len, rules[i % KINDS], i,
                                i / 256 % 256, i % 256);
    *ret_len = len;
    return yaml;
}

struct policy *
bench_compile(const char *yaml, size_t len)
{
    static struct diag d;
    struct policy *p =
        policy_compile(yaml, len, "/etc/gmroute/gmroute.yaml", NULL, &d);

    if (p != NULL)
        return p;
    for (unsigned i = 0; i < d.n; i++)
        fprintf(stderr, "%s:%u:%u: %s\n", d.item[i].at.file, d.item[i].at.line,
                d.item[i].at.col, d.item[i].text);
    exit(1);
}

/* ---- messages ---- */

__attribute__((format(printf, 2, 3))) static struct slice
text(struct bench_message *m, const char *fmt, ...)
{
    static size_t used;
    va_list ap;
    char *at;
    int n;

    if (m->f.n_headers == 0 && m->f.sender.at == NULL)
        used = 0;
    at = m->room + used;
    va_start(ap, fmt);
    n = vsnprintf(at, sizeof m->room - used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof m->room - used)
        abort();
    used += (size_t)n + 1;
    return (struct slice){at, (size_t)n};
}

static void
add_header(struct bench_message *m, const char *name, struct slice value)
{
    m->header[m->f.n_headers++] = (struct facts_pair){slice_of(name), value};
}

void
bench_message_for(struct bench_message *m, size_t i)
{
    static const uint8_t net[16] = {[10] = 255, 255, 198, 51, 100, 7};
    size_t kind = i % KINDS;

    memset(m, 0, sizeof *m);
    m->f.stage = FACTS_EOM;
    m->f.now_s = 1700000000;
    m->f.client.known = true;
    memcpy(m->f.client.address, net, sizeof net);
    m->f.size_octets = 20000;
    m->f.n_recipients = BENCH_RECIPIENTS;
    m->f.header = m->header;
    switch (kind) {
    case 0:
        m->f.sender = text(m, "person%zu@partner.example", i);
        break;
    case 1:
        m->f.sender = text(m, "someone@d%zu.example", i);
        break;
    case 2:
        m->f.sender = text(m, "user%zu@example.com", i);
        m->f.auth = text(m, "user%zu@example.com", i);
        break;
    case 7:
        m->f.sender = text(m, "robot@example.org");
        break;
    default:
        m->f.sender = text(m, "visitor%zu@elsewhere.example", i);
        break;
    }
    if (kind == 4) {
        m->f.client.address[12] = 10;
        m->f.client.address[13] = (uint8_t)(i / 256);
        m->f.client.address[14] = (uint8_t)i;
    }
    m->f.client.name = text(m, "mail%zu.clients.example", i % 1000);
    m->recipient[0] = text(m, "first%zu@far.example", i);
    m->recipient[1] = text(m, "second@other%zu.example", i);
    m->recipient[2] = text(m, "third@example.net");
    if (kind == 3)
        m->recipient[1] = text(m, "none%zu@far.example", i);
    if (kind == 6)
        m->recipient[1] = text(m, "boss@mail.c%zu.example", i);
    if (kind == 7)
        m->recipient[1] = text(m, "r%zu@far.example", i);
    add_header(m, "Received", text(m, " from a (a [192.0.2.1]) by b; date"));
    add_header(m, "Date", text(m, " Wed, 1 Nov 2023 10:00:00 +0000"));
    add_header(m, "From",
               kind == 5 ? text(m, " A Person <a.person@f%zu.example>", i)
                         : text(m, " A Person <a.person@example.org>"));
    add_header(m, "To", text(m, " Someone <first%zu@far.example>", i));
    add_header(m, "Subject", text(m, " =?utf-8?q?Report_of_the_day?= %zu", i));
    add_header(m, "Message-ID", text(m, " <%zu@example.org>", i));
    add_header(m, "MIME-Version", text(m, " 1.0"));
    add_header(m, "Content-Type", text(m, " text/plain; charset=utf-8"));
    if (kind == 7)
        add_header(m, "X-Kind", text(m, " report"));
}

double
bench_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}
