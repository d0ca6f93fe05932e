/* milter/ctl/check.c - gmroutectl check.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>

#include "milter/base/conf.h"
#include "milter/ctl/ctl.h"

static json_t *
json_of(const struct diag *d)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < d->n; i++) {
        const struct diag_item *x = &d->item[i];

        json_array_append_new(
            list, json_pack("{s:s, s:i, s:i, s:s, s:s}", "file",
                            x->at.file != NULL ? x->at.file : "", "line",
                            (int)x->at.line, "column", (int)x->at.col, "level",
                            x->level == DIAG_ERROR ? "error" : "warning",
                            "text", x->text));
    }
    return list;
}

static int
check_json(const struct ctl *c)
{
    struct diag *d = calloc(1, sizeof *d);
    struct policy *p = d != NULL ? conf_load(c->file, d) : NULL;

    if (d != NULL)
        ctl_print_json(
            json_pack("{s:b, s:o}", "ok", p != NULL, "problems", json_of(d)));
    free(d);
    policy_free(p);
    return p != NULL ? CTL_GOOD : CTL_NO;
}

int
ctl_check(struct ctl *c, int argc, char **argv)
{
    struct policy *p;

    if (argc > 1)
        return ctl_usage("check", "[-c FILE] [--json]", "unknown word %s",
                         argv[1]);
    if (c->json)
        return check_json(c);
    p = ctl_load(c, true);
    if (p == NULL)
        return CTL_NO;
    printf("%s: good: %zu rules, %zu accounts\n", c->file, p->n_rules,
           p->n_accounts);
    policy_free(p);
    return CTL_GOOD;
}
