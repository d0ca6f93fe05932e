/* milter/ctl/mta_config.h - the lines for one kind of MTA.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_MTA_CONFIG_H
#define CTL_MTA_CONFIG_H

#include "milter/ctl/ctl.h"
#include "policy/policy.h"

/* Prints, with the reason of each line as a comment of that file's syntax,
 * cut by lines "# ---- FILE ----".  directory, queue_directory: as in
 * mta_plan.h.  False = out of memory. */
bool mta_config_postfix(const struct policy *p, const char *directory,
                        const char *queue_directory);
void mta_config_sendmail(const struct policy *p);

enum mta_apply { MTA_APPLY, MTA_DRY_RUN, MTA_UNDO };

/* Makes Postfix have these lines, says what it does or would do, or takes it
 * back; an exit status.  directory NULL = Postfix's own. */
int mta_config_apply(const struct ctl *c, const struct policy *p,
                     const char *directory, enum mta_apply what);

#endif
