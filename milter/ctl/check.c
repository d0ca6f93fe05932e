/* milter/ctl/check.c - gmroutectl check: the configuration as the daemons
 * would load it, and the policy's own tests.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Secrets are not read, so anybody who may read the configuration can check
 * it; nor is a daemon asked.
 */
#include <stdio.h>
#include <stdlib.h>

#include "milter/base/conf.h"
#include "milter/ctl/ctl.h"
#include "policy/proof.h"

struct check {
    struct diag load, tests;
    struct policy *policy; /* NULL = it does not load */
};

static json_t *
json_of(const struct check *k, enum diag_level level)
{
    const struct diag *const from[] = {&k->load, &k->tests};
    json_t *list = json_array();

    for (unsigned j = 0; j < 2; j++)
        for (unsigned i = 0; i < from[j]->n; i++) {
            const struct diag_item *x = &from[j]->item[i];

            if (x->level == level)
                json_array_append_new(
                    list, json_pack("{s:s, s:i, s:i, s:s}", "file",
                                    x->at.file != NULL ? x->at.file : "",
                                    "line", (int)x->at.line, "col",
                                    (int)x->at.col, "text", x->text));
        }
    return list;
}

/* The names, in order; of a configuration that does not load, none. */
static json_t *
json_accounts(const struct policy *p)
{
    json_t *list = json_array();

    for (size_t i = 0; p != NULL && i < p->n_accounts; i++)
        json_array_append_new(list, json_string(p->accounts[i].name));
    return list;
}

static void
print_json(const struct check *k, size_t n_tests)
{
    ctl_print_json(
        json_pack("{s:o, s:o, s:i, s:{s:I, s:i}, s:o}", "errors",
                  json_of(k, DIAG_ERROR), "warnings", json_of(k, DIAG_WARNING),
                  "dropped", (int)(k->load.dropped + k->tests.dropped), "tests",
                  "run", (json_int_t)n_tests, "failed", (int)k->tests.n_errors,
                  "accounts", json_accounts(k->policy)));
}

static unsigned
count_warnings(const struct diag *d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n; i++)
        n += d->item[i].level == DIAG_WARNING;
    return n;
}

static const char *
plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static void
print_text(const struct ctl *c, const struct check *k, size_t n_tests)
{
    unsigned warnings = count_warnings(&k->load) + count_warnings(&k->tests);
    unsigned failed = k->tests.n_errors;

    ctl_print_diag(c, &k->load, true);
    ctl_print_diag(c, &k->tests, true);
    if (k->policy == NULL) {
        printf("%s: broken: %u error%s", c->file, k->load.n_errors,
               plural(k->load.n_errors));
    } else {
        printf("%s: %s: %zu rule%s, %zu account%s", c->file,
               failed == 0 ? "good" : "broken", k->policy->n_rules,
               plural(k->policy->n_rules), k->policy->n_accounts,
               plural(k->policy->n_accounts));
        if (failed > 0)
            printf(", %u of %zu test%s failed", failed, n_tests,
                   plural(n_tests));
        else if (n_tests > 0)
            printf(", %zu test%s passed", n_tests, plural(n_tests));
    }
    if (warnings > 0)
        printf(", %u warning%s", warnings, plural(warnings));
    putchar('\n');
}

int
ctl_check(struct ctl *c, int argc, char **argv)
{
    struct check *k;
    size_t n_tests = 0;
    bool good;

    if (argc > 1)
        return ctl_usage("check", "[-c FILE] [--json]", "unknown word %s",
                         argv[1]);
    k = calloc(1, sizeof *k);
    if (k == NULL) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    k->policy = conf_load(c->file, &k->load);
    good = k->policy != NULL;
    if (good) {
        n_tests = k->policy->n_proofs;
        good = proof_run(k->policy, &k->tests);
    }
    if (c->json)
        print_json(k, n_tests);
    else
        print_text(c, k, n_tests);
    policy_free(k->policy);
    free(k);
    return good ? CTL_GOOD : CTL_NO;
}
