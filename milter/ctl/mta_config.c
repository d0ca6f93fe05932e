/* milter/ctl/mta_config.c - gmroutectl mta-config: the lines that the MTA needs
 * for this configuration, each with its reason.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mta_config.h"

#include <string.h>

#include "milter/ctl/ctl.h"

int
ctl_mta_config(struct ctl *c, int argc, char **argv)
{
    static const char synopsis[] = "postfix|sendmail [-c FILE]";
    void (*print)(const struct policy *) = NULL;
    struct policy *p;

    if (argc != 2)
        return ctl_usage("mta-config", synopsis, "which MTA?");
    if (strcmp(argv[1], "postfix") == 0)
        print = mta_config_postfix;
    else if (strcmp(argv[1], "sendmail") == 0)
        print = mta_config_sendmail;
    else
        return ctl_usage("mta-config", synopsis, "%s is not an MTA we know",
                         argv[1]);
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_USAGE;
    print(p);
    policy_free(p);
    return CTL_GOOD;
}
