/* tests/fuzz/fuzz_policy.c - any text as a configuration.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A policy or an error, never both and never neither; every place lies in a
 * file; what was compiled once compiles again, to the same plans; its tests
 * run, and twice with one result.
 *
 * What stands behind a line "# ----" is another file, "more.yaml", which the
 * first may include; a pattern stands for it and for one that is missing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "policy/proof.h"
#include "tests/unit/policy/tzif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static struct slice included; /* more.yaml */

/* What a list or map file holds, whatever its name. */
static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    static const char zone[] = TZIF_RULE("CET-1CEST,M3.5.0,M10.5.0/3");
    static const char text[] = "# a file\nann@x bob\n*@glob c\n/re/ d\n";

    (void)cookie;
    if (path[strlen(path) - 1] == '0') {
        snprintf(err, err_size, "no such file");
        return false;
    }
    *ret_text = text;
    *ret_len = sizeof text - 1;
    if (strncmp(path, "/usr/share/zoneinfo/", 20) == 0) {
        *ret_text = zone;
        *ret_len = sizeof zone - 1;
    }
    if (slice_ends_nocase(slice_of(path), SLICE_LIT("/more.yaml"))) {
        *ret_text = included.at;
        *ret_len = included.len;
    }
    return true;
}

static bool
find_files(void *cookie, const char *pattern, const char *const **ret,
           size_t *ret_n, char *err, size_t err_size)
{
    static const char *const path[] = {"/c/more.yaml", "/c/0"};

    (void)cookie;
    if (pattern[0] != '/') {
        snprintf(err, err_size, "not absolute");
        return false;
    }
    *ret = path;
    *ret_n = pattern[strlen(pattern) - 1] == '?' ? 2 : 1;
    return true;
}

static const struct policy_files files = {.read_file = read_file,
                                          .glob = find_files};

/* The first of the two files; the second is left in `included`. */
static struct slice
split(const char *data, size_t size)
{
    static const char mark[] = "\n# ----\n";
    const char *at = memmem(data, size, mark, sizeof mark - 1);
    struct slice s = {data, size};

    included = (struct slice){"", 0};
    if (at != NULL) {
        s.len = (size_t)(at - data) + 1;
        included.at = at + sizeof mark - 1;
        included.len = size - s.len - (sizeof mark - 2);
    }
    return s;
}

static void
check_diag(const struct diag *d)
{
    check(d->n <= DIAG_MAX);
    for (unsigned i = 0; i < d->n; i++) {
        check(d->item[i].at.file != NULL);
        check(d->item[i].text[0] != '\0');
        check(strlen(d->item[i].text) < DIAG_TEXT);
        check(strchr(d->item[i].text, '\n') == NULL);
    }
}

static void
check_lookups(const struct policy *p)
{
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];
        char identity[IDENTITY_MAX + 1];
        struct mailbox m;

        check(policy_account(p, a->name) == a);
        check(a->smarthost != NULL && a->quota.n > 0);
        mailbox_identity(a->address, a->smarthost->name, identity);
        check(policy_mailbox(p, identity, &m) == !a->is_template);
        if (!a->is_template)
            check(m.account == a);
    }
    for (size_t i = 0; i < p->n_plans; i++)
        check(policy_plan(p, p->plans[i]->hash) == p->plans[i]);
    check(policy_plan(p, p->default_plan->hash) == p->default_plan);
}

static void
check_proofs(const struct policy *p, struct diag *d)
{
    bool good;
    unsigned n;

    memset(d, 0, sizeof *d);
    good = proof_run(p, d);
    n = d->n_errors;
    check(good == (n == 0));
    check_diag(d);
    check(proof_run(p, d) == good && d->n_errors == 2 * n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct diag d;
    struct slice text = split((const char *)data, size);
    struct policy *p = policy_compile(text.at, text.len, "/c/f", &files, &d);
    struct policy *again;

    check((p == NULL) == (d.n_errors > 0));
    check_diag(&d);
    if (p == NULL)
        return 0;
    check_lookups(p);
    check_proofs(p, &d);
    again = policy_compile(text.at, text.len, "/c/f", &files, &d);
    check(again != NULL && again->n_plans == p->n_plans);
    for (size_t i = 0; i < p->n_plans; i++)
        check(p->plans[i]->hash == again->plans[i]->hash);
    policy_free(again);
    policy_free(p);
    return 0;
}
