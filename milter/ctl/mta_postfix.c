/* milter/ctl/mta_postfix.c - what Postfix needs for this configuration,
 * printed with the reasons.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "milter/ctl/mta_config.h"
#include "milter/ctl/mta_plan.h"

static void
print_service(const struct plan_service *s)
{
    printf("%s%-7s unix %s %s n - %u %s\n", s->why, s->name, s->private_,
           s->unprivileged, s->maxproc, s->command);
    for (size_t i = 0; i < PLAN_OVERRIDES && s->override[i].name != NULL; i++)
        printf("  -o %s=%s\n", s->override[i].name, s->override[i].value);
}

bool
mta_config_postfix(const struct policy *p, const char *directory,
                   const char *queue_directory)
{
    struct arena *a = arena_new();
    struct mta_plan plan;
    bool good = a != NULL && mta_plan(p, directory, queue_directory, a, &plan);

    if (good) {
        puts("# ---- main.cf ----");
        for (size_t i = 0; i < PLAN_SETTINGS; i++)
            printf("%s%s = %s\n", plan.setting[i].why, plan.setting[i].name,
                   plan.setting[i].value);
        printf("\n# ---- %s/%s%s ----\n%s\n# ---- master.cf ----\n", directory,
               plan.file[0].name, plan.file[0].note, plan.file[0].text);
        for (size_t i = 0; i < PLAN_SERVICES; i++)
            print_service(&plan.service[i]);
        printf("\n# ---- %s/%s%s ----\n%s", directory, plan.file[1].name,
               plan.file[1].note, plan.file[1].text);
    }
    arena_free(a);
    return good;
}
