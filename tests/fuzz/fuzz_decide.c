/* tests/fuzz/fuzz_decide.c - an envelope and a message from a stranger,
 * against policies that look at everything.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: one octet choosing the policy and the flags, one for the client, two
 * for the size and the hour, then fields with a NUL behind each: sender,
 * recipient, login, client name, HELO, a macro, an attachment, and the names
 * and values of the headers.
 *
 * What is refused at RCPT is refused in the same words at the end of the
 * message, and what a log decides is decided there; the end of the message
 * always knows; a second recipient with the same scratch gets the same answer;
 * a line of the trace ends.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/decide.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADERS_MAX = 8 };

#define KEYS                                                               \
    "  - {match: {helo: [.example.com, {list: l}], tls: yes,\n"            \
    "             attachment: ['*.exe', /z$/]}, defer: '451 4.7.1 two'}\n" \
    "  - {match: {macro: {i: '/^in/', j: x}, time: [mon-wed, 'sun "        \
    "22:00-06:00']},\n"                                                    \
    "     route: mta}\n"                                                   \
    "  - {match: {sample: 50%, recipients: '< 3', header: {Message-ID: "   \
    "'*@x>'}},\n"                                                          \
    "     route: {account: news}}\n"

#define RULES                                                                \
    "timezone: UTC\n"                                                        \
    "mta_domains: [s]\n"                                                     \
    "accounts:\n"                                                            \
    "  news: {address: n@g, auth: {password_file: p}, quota: gmail,\n"       \
    "         send_as: ['@x', a@y]}\n"                                       \
    "  named: {address: a@x, auth: {password_file: p}, quota: gmail,\n"      \
    "          trust: [login, {clients: [192.0.2.0/25]}]}\n"                 \
    "  t: {address: '*@x', auth: {password_file: p}, quota: gmail}\n"        \
    "pools:\n"                                                               \
    "  both: {accounts: [news, t], pick: most_room}\n"                       \
    "lists:\n"                                                               \
    "  l: [a@x, '*@y', '/^[a-f]+@/', .z]\n"                                  \
    "rules:\n"                                                               \
    "  - {match: {sender: {list: l}, header: {Subject: '/(a+)+$/'}},\n"      \
    "     reject: '550 5.7.1 one'}\n"                                        \
    "  - {match: {recipient_domain: {list: l}}, reject: '550 5.7.1 one'}\n"  \
    "  - {match: {header: {X: a*}}, reject: '550 5.7.1 s', shadow: yes}\n"   \
    "  - {match: {from: '*@s'}, route: {pool: both}, shadow: yes}\n"         \
    "  - {match: {sender: h@h}, hold: x, add_header: {X: y}}\n"              \
    "  - {match: {header: {X: d}}, discard: true}\n"                         \
    "  - {match: {any: [{from: '*@x'}, {from_domain: .y}, {kind: bulk}]},\n" \
    "     route: {account: t}, otherwise: [{pool: both}, mta]}\n" KEYS       \
    "  - {match: {client: [192.0.2.0/25, .example.com, '*.?']},\n"           \
    "     defer: '451 4.7.1 two'}\n"                                         \
    "  - {match: {kind: bounce, size: '> 100'}, route: {pool: both}}\n"      \
    "  - {match: {not: {auth: '*', header: {X: '*?*a*'}}},\n"                \
    "     reject: '550 5.7.1 three'}\n"

static const char *const yaml[] = {
    "gmroute: 1\n" RULES,
    "gmroute: 1\nunparseable: reject\n" RULES,
};

static struct policy *policy[2];
static struct scratch *scratch;
static struct decision early, late, again;

static void
check(bool good)
{
    if (!good)
        abort();
}

static bool
no_files(void *cookie, const char *path, const char **ret_text, size_t *ret_len,
         char *err, size_t err_size)
{
    (void)cookie;
    (void)path;
    (void)ret_text;
    (void)ret_len;
    if (err_size > 0)
        err[0] = '\0';
    return false;
}

static void
set_up(void)
{
    static const struct policy_files files = {.read_file = no_files};
    static struct diag d;

    for (size_t i = 0; i < 2; i++) {
        policy[i] = policy_compile(yaml[i], strlen(yaml[i]), "/f", &files, &d);
        check(policy[i] != NULL);
    }
    scratch = scratch_new();
    check(scratch != NULL);
}

static struct slice
field(struct slice *in)
{
    const char *end = in->len > 0 ? memchr(in->at, '\0', in->len) : NULL;
    struct slice s = *in;

    if (end != NULL)
        s.len = (size_t)(end - in->at);
    *in = slice_from(*in, s.len + 1);
    return s;
}

static bool
is_refusal(const struct decision *d)
{
    return d->action == ACTION_REJECT || d->action == ACTION_DEFER;
}

static void
check_early(const struct policy *p, struct facts *f, struct slice recipient)
{
    f->stage = FACTS_RCPT;
    check(decide(p, f, recipient, scratch, &early, NULL) == DECIDE_OK);
    check(early.action == ACTION_UNKNOWN || is_refusal(&early));
    if (is_refusal(&early)) {
        check(late.action == early.action);
        check(strcmp(late.reply, early.reply) == 0);
    }
}

static void
check_late(const struct policy *p, const struct facts *f,
           struct slice recipient)
{
    static struct why why[16];
    struct trace trace = {.max = 16, .why = why};

    check(decide(p, f, recipient, scratch, &late, NULL) == DECIDE_OK);
    check(late.action != ACTION_UNKNOWN);
    check(late.reply != NULL ||
          (!is_refusal(&late) && late.action != ACTION_HOLD));
    check(late.edits == NULL || !is_refusal(&late));
    check(late.n_shadows <= 2);
    check((late.action == ACTION_ACCOUNT) == (late.n_candidates > 0));
    check(decide(p, f, recipient, scratch, &again, &trace) == DECIDE_OK);
    check(again.action == late.action && again.rule == late.rule);
    check(again.n_candidates == late.n_candidates);
    for (size_t i = 0; i < trace.n; i++)
        check(why[i].failed[0] != '\0' && strlen(why[i].failed) < WHY_TEXT);
    for (unsigned i = 0; i < late.n_candidates; i++)
        if (late.candidate[i].kind == STEP_ACCOUNT)
            decide_from_allowed(&late.candidate[i].mailbox, f);
}

/* A log has the Message-ID alone. */
static void
check_log(const struct policy *p, const struct facts *f, struct slice recipient)
{
    struct facts_pair header[HEADERS_MAX];
    struct facts log = *f;

    log.stage = FACTS_LOG;
    log.header = header;
    log.n_headers = 0;
    for (size_t i = 0; i < f->n_headers; i++)
        if (slice_eq_nocase(f->header[i].name, SLICE_LIT("Message-ID")))
            header[log.n_headers++] = f->header[i];
    check(decide(p, &log, recipient, scratch, &early, NULL) == DECIDE_OK);
    if (early.action == ACTION_UNKNOWN)
        return;
    check(early.action == late.action && early.rule == late.rule);
    check(early.n_candidates == late.n_candidates);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct facts_pair header[HEADERS_MAX];
    struct facts_pair macro = {.name = SLICE_LIT("i")};
    struct slice attachment, in, recipient;
    struct facts f = {.stage = FACTS_EOM,
                      .header = header,
                      .macro = &macro,
                      .attachment = &attachment};

    if (size < 4)
        return 0;
    if (scratch == NULL)
        set_up();
    f.local = (data[0] & 2) != 0;
    f.client.known = (data[0] & 4) != 0;
    memcpy(f.client.address, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2", 15);
    f.client.address[15] = data[1];
    f.tls = (data[0] & 8) != 0;
    f.attachments_cut = (data[0] & 16) != 0;
    f.n_recipients = data[0] >> 5;
    f.size_octets = (uint64_t)data[2] << 8 | data[3];
    f.now_s = (int64_t)f.size_octets * 3600;
    in = (struct slice){(const char *)data + 4, size - 4};
    f.sender = field(&in);
    recipient = field(&in);
    f.auth = field(&in);
    f.client.name = field(&in);
    f.helo = field(&in);
    macro.value = field(&in);
    f.n_macros = macro.value.len > 0;
    attachment = field(&in);
    f.n_attachments = attachment.len > 0;
    while (in.len > 0 && f.n_headers < HEADERS_MAX) {
        header[f.n_headers].name = field(&in);
        header[f.n_headers++].value = field(&in);
    }
    scratch_reset(scratch);
    check_late(policy[data[0] & 1], &f, recipient);
    check_log(policy[data[0] & 1], &f, recipient);
    check_early(policy[data[0] & 1], &f, recipient);
    return 0;
}
