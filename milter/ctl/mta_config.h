/* milter/ctl/mta_config.h - the lines for one kind of MTA.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_MTA_CONFIG_H
#define CTL_MTA_CONFIG_H

#include "policy/policy.h"

/* Prints, with the reason of each line as a comment of that file's syntax,
 * cut by lines "# ---- FILE ----". */
void mta_config_postfix(const struct policy *p);
void mta_config_sendmail(const struct policy *p);

#endif
