/* tests/unit/policy/decide_case.c - see decide_case.h
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/policy/decide_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct scratch *case_scratch;
struct decision case_decision;

int
case_setup(void **state)
{
    (void)state;
    case_scratch = scratch_new();
    return case_scratch == NULL;
}

int
case_teardown(void **state)
{
    (void)state;
    scratch_free(case_scratch);
    return 0;
}

/* ---- policies ---- */

static const struct {
    const char *path, *text;
} files[] = {
    {"/etc/gmroute/mailboxes.txt", "# alias mailbox\n"
                                   "info@example.com ann@example.com\n"
                                   "boss Carl\n"
                                   "old.name@example.com bob@example.com\n"},
    {"/etc/gmroute/logins.txt", "Mailer\nscanner@example.com\n"},
    {"/etc/gmroute/vip.txt", "ceo@example.com\n*@board.example.com\n"},
};

static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    (void)cookie;
    for (size_t i = 0; i < LENGTH(files); i++)
        if (strcmp(path, files[i].path) == 0) {
            *ret_text = files[i].text;
            *ret_len = strlen(files[i].text);
            return true;
        }
    snprintf(err, err_size, "no such file");
    return false;
}

struct policy *
case_compile(const char *text)
{
    static const struct policy_files reader = {.read_file = read_file};
    static struct diag d;
    struct policy *p = policy_compile(text, strlen(text),
                                      "/etc/gmroute/gmroute.yaml", &reader, &d);

    if (p == NULL)
        for (unsigned i = 0; i < d.n; i++)
            print_error("%s:%u:%u: %s\n", d.item[i].at.file, d.item[i].at.line,
                        d.item[i].at.col, d.item[i].text);
    assert_non_null(p);
    return p;
}

/* ---- facts and decisions as text ---- */

/* "Name: value\n" lines; a line that begins with a space is folded. */
static size_t
split_headers(const char *text, struct facts_pair h[CASE_HEADERS_MAX])
{
    size_t n = 0;

    while (text != NULL && *text != '\0') {
        const char *colon = strchr(text, ':'), *end = colon;

        assert_non_null(colon);
        do
            end = strchr(end, '\n') + 1;
        while (*end == ' ' || *end == '\t');
        assert_true(n < CASE_HEADERS_MAX);
        h[n].name = (struct slice){text, (size_t)(colon - text)};
        h[n++].value = (struct slice){colon + 1, (size_t)(end - colon - 2)};
        text = end;
    }
    return n;
}

struct facts
case_facts(const struct mail *m, enum facts_stage stage,
           struct facts_pair h[CASE_HEADERS_MAX])
{
    struct facts f = {.stage = stage,
                      .local = m->local,
                      .sender = slice_of(m->sender),
                      .auth = slice_of(m->login)};

    if (m->client != NULL) {
        static const uint8_t at[16] = {0, 0, 0,   0,   0,   0, 0, 0,
                                       0, 0, 255, 255, 192, 0, 2};

        f.client.known = true;
        memcpy(f.client.address, at, sizeof at);
        f.client.address[15] = (uint8_t)atoi(m->client);
    }
    if (stage == FACTS_RCPT)
        return f;
    f.n_headers = split_headers(m->headers, h);
    f.header = h;
    f.size_octets = m->size;
    f.n_recipients = 1;
    return f;
}

static void
add(char to[CASE_TEXT], const char *fmt, ...)
{
    size_t n = strlen(to);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to + n, CASE_TEXT - n, fmt, ap);
    va_end(ap);
}

/* "rule: action" and what goes with it:
 *     people: account ann@example.com(staff) wait
 *     nobody: reject 550 5.7.1 no */
static void
show(const struct decision *d, char ret[CASE_TEXT])
{
    ret[0] = '\0';
    if (d->action == ACTION_UNKNOWN) {
        add(ret, "unknown");
        return;
    }
    add(ret, "%s: %s", d->rule != NULL ? d->rule : "default",
        action_name(d->action));
    if (d->reply != NULL)
        add(ret, " %s", d->reply);
    for (unsigned i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidate[i];

        switch (c->kind) {
        case STEP_ACCOUNT:
            add(ret, " %s", c->mailbox.address);
            if (strcmp(c->mailbox.address, c->mailbox.account->address) != 0)
                add(ret, "(%s)", c->mailbox.account->name);
            if (c->pool != NULL)
                add(ret, "[%s]", c->pool->name);
            break;
        case STEP_MTA:
            add(ret, " mta");
            break;
        case STEP_WAIT:
            add(ret, " wait");
            break;
        case STEP_DEFER:
            add(ret, " defer(%s)", c->reply);
            break;
        case STEP_REJECT:
            add(ret, " reject(%s)", c->reply);
            break;
        case STEP_POOL:
            add(ret, " POOL");
            break;
        }
    }
}

void
case_decide(const struct policy *p, const struct mail *m,
            enum facts_stage stage, struct trace *trace, char ret[CASE_TEXT])
{
    struct facts_pair h[CASE_HEADERS_MAX];
    struct facts f = case_facts(m, stage, h);

    memset(&case_decision, 0xA5,
           sizeof case_decision); /* nothing is left unset */
    scratch_reset(case_scratch);
    assert_int_equal(decide(p, &f, slice_of(m->recipient), case_scratch,
                            &case_decision, trace),
                     DECIDE_OK);
    scratch_reset(case_scratch); /* the headers are gone after this */
    show(&case_decision, ret);
}

void
case_rows(const char *yaml, const struct row *row, size_t n)
{
    struct policy *p = case_compile(yaml);
    char got[CASE_TEXT];

    for (size_t i = 0; i < n; i++) {
        struct mail m = row[i].mail;

        if (m.recipient == NULL)
            m.recipient = "r@far.example";
        print_message("  %s\n", row[i].name);
        case_decide(p, &m, FACTS_RCPT, NULL, got);
        assert_string_equal(
            got, row[i].at_rcpt != NULL ? row[i].at_rcpt : "unknown");
        case_decide(p, &m, FACTS_EOM, NULL, got);
        assert_string_equal(got, row[i].at_end);
    }
    policy_free(p);
}
