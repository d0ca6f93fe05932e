/* milter/token/quota_watch.h - has an account used so much that somebody should
 * know?
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_QUOTA_WATCH_H
#define TOKEN_QUOTA_WATCH_H

#include "milter/state/quota.h"
#include "milter/token/alert.h"

/* Pure.  State "nearly_full" with the fullest window, or "ok".  `pace` is made
 * to be used up, and does not count. */
struct alert quota_watch(const struct quota_view *v, unsigned percent);

#endif
