/* milter/token/quota_watch.c - see quota_watch.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/quota_watch.h"

#include <inttypes.h>
#include <stdio.h>

struct alert
quota_watch(const struct quota_view *v, unsigned percent)
{
    double most = 0;
    unsigned fullest = 0;
    char why[ALERT_WHY_MAX + 1];

    for (unsigned i = 0; i < v->n; i++) {
        double part;

        if (v->window[i].dimension == DIM_PACE || v->window[i].limit == 0)
            continue;
        part = (double)v->window[i].used / (double)v->window[i].limit * 100;
        if (part > most) {
            most = part;
            fullest = i;
        }
    }
    if (most < percent || most <= 0)
        return alert_of(ALERT_QUOTA, v->identity, "ok", "");
    snprintf(why, sizeof why,
             "%.0f %% of a limit is used: %" PRIu64 " of %" PRIu64
             " %s in %.4g h; what is more will wait or go elsewhere",
             most, v->window[fullest].used, v->window[fullest].limit,
             dimension_name(v->window[fullest].dimension),
             (double)v->window[fullest].window_ms / 3600000);
    return alert_of(ALERT_QUOTA, v->identity, "nearly_full", why);
}
