/* policy/outcome_table.h - the rows behind outcome_judge().
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.
 */
#ifndef POLICY_OUTCOME_TABLE_H
#define POLICY_OUTCOME_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "policy/outcome.h"

/* An enhanced code in one number; 0 stands for any. */
#define ENHANCED(klass, subject, detail) \
    ((uint32_t)(klass) << 20 | (uint32_t)(subject) << 10 | (uint32_t)(detail))

/* A row matches when all that it names is so.  The first match wins. */
struct outcome_row {
    unsigned stages; /* set of 1u << enum smtp_stage */
    uint16_t code;   /* 0 = any */
    uint32_t enhanced;
    const char *keyword; /* of the help link; NULL = any */
    const char *text;    /* found in the text, without case; NULL = any */
    struct verdict verdict;
};

extern const struct outcome_row outcome_table[];
extern const size_t outcome_table_rows;

#endif
