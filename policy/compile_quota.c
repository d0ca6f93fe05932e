/* policy/compile_quota.c - an account's limits.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Presets: Google, "Gmail sending limits in Google Workspace"
 * (support.google.com/a/answer/166852, all windows rolling, 24 hours),
 * "Bandwidth limits" (answer/1071518) and "Route outgoing SMTP relay messages"
 * (answer/2956491).
 */
#include "policy/compile.h"

#include <stdio.h>

#include "policy/scalar.h"
#include "policy/window.h"

#define HOUR_MS  (3600ull * 1000)
#define DAY_MS   (24 * HOUR_MS)
#define UNIT_MAX 1000000000000000ull /* of a limit: keeps sums far from 2^64 */

enum { RECIPIENTS_PER_MESSAGE = 100, RECIPIENTS_PER_MESSAGE_MAX = 1000 };

static const struct preset {
    const char *name;
    struct limit limit[LIMITS_MAX]; /* the first with max 0 ends it */
} presets[] = {
    /* A message counts each of its recipients. */
    {"gmail", {{DIM_MESSAGES, 500, DAY_MS}, {DIM_RECIPIENTS, 500, DAY_MS}}},
    {"workspace",
     {{DIM_MESSAGES, 2000, DAY_MS},
      {DIM_RECIPIENTS, 10000, DAY_MS},
      {DIM_EXTERNAL_RECIPIENTS, 3000, DAY_MS},
      {DIM_UNIQUE_RECIPIENTS, 3000, DAY_MS},
      {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 2000, DAY_MS},
      {DIM_BYTES, 300000000, HOUR_MS},
      {DIM_BYTES, 1500000000, DAY_MS}}},
    /* As workspace, but for messages and unique external recipients. */
    {"workspace_trial",
     {{DIM_MESSAGES, 500, DAY_MS},
      {DIM_RECIPIENTS, 10000, DAY_MS},
      {DIM_EXTERNAL_RECIPIENTS, 3000, DAY_MS},
      {DIM_UNIQUE_RECIPIENTS, 3000, DAY_MS},
      {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 500, DAY_MS},
      {DIM_BYTES, 300000000, HOUR_MS},
      {DIM_BYTES, 1500000000, DAY_MS}}},
    {"relay",
     {{DIM_MESSAGES, 10000, DAY_MS}, {DIM_UNIQUE_RECIPIENTS, 10000, DAY_MS}}},
};

enum { N_PRESETS = sizeof presets / sizeof *presets };

const struct schema_type compile_quota = {
    "gmail, workspace, workspace_trial or relay, or a map of limits",
    compile_keep};

static const struct preset *
find_preset(struct slice name)
{
    for (size_t i = 0; i < N_PRESETS; i++)
        if (slice_eq(name, slice_of(presets[i].name)))
            return &presets[i];
    return NULL;
}

static void
take_preset(const struct preset *p, struct quota_limits *q)
{
    while (q->n < LIMITS_MAX && p->limit[q->n].max > 0) {
        q->limit[q->n] = p->limit[q->n];
        q->n++;
    }
}

/* ---- "500 per 24h" ---- */

static bool
parse_limit(struct compile *c, const char *key, enum dimension dimension,
            const struct node *n, struct limit *ret)
{
    static const char word[] = " per ";
    const char *per = NULL, *what;
    struct slice amount = n->text;
    struct shown shown = node_show(n);
    enum scalar_result r;

    what = shown.text;
    if (compile_is_text(n))
        per = memmem(n->text.at, n->text.len, word, sizeof word - 1);
    if (per == NULL)
        return diag_error(
            c->diag, n->at, "%s: want a limit such as \"%s\", found %s", key,
            dimension == DIM_BYTES ? "300MB per 1h" : "500 per 24h", what);
    amount.len = (size_t)(per - amount.at);
    ret->dimension = dimension;
    r = dimension == DIM_BYTES ? scalar_size(slice_trim(amount), &ret->max)
                               : scalar_number(slice_trim(amount), &ret->max);
    if (r == SCALAR_ESYNTAX || r == SCALAR_EUNIT)
        return diag_error(c->diag, n->at, "%s: %s begins with no %s", key, what,
                          dimension == DIM_BYTES ? "size" : "whole number");
    if (r == SCALAR_ERANGE || ret->max < 1 || ret->max > UNIT_MAX)
        return diag_error(c->diag, n->at,
                          "%s: %s: the limit is outside 1..%llu", key, what,
                          UNIT_MAX);
    r = scalar_duration(
        slice_trim(slice_from(n->text, amount.len + sizeof word - 1)),
        &ret->window_ms);
    if (r == SCALAR_ESYNTAX || r == SCALAR_EUNIT)
        return diag_error(c->diag, n->at,
                          "%s: %s ends with no duration such as 24h", key,
                          what);
    if (r == SCALAR_ERANGE || ret->window_ms < 1000 ||
        ret->window_ms > WINDOW_MS_MAX)
        return diag_error(c->diag, n->at,
                          "%s: %s: the span is outside "
                          "1s..366d",
                          key, what);
    return true;
}

static bool
add_limit(struct compile *c, const char *key, const struct node *n,
          const struct limit *l, struct quota_limits *q)
{
    for (unsigned i = 0; i < q->n; i++)
        if (q->limit[i].dimension == l->dimension &&
            q->limit[i].window_ms == l->window_ms)
            return diag_error(c->diag, n->at,
                              "%s: two limits for one span of time", key);
    if (q->n == LIMITS_MAX)
        return diag_error(c->diag, n->at,
                          "%s: an account has at most %d limits", key,
                          LIMITS_MAX);
    q->limit[q->n++] = *l;
    return true;
}

static bool
read_dimension(struct compile *c, const char *key, enum dimension dimension,
               const struct node *n, struct quota_limits *q)
{
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "%s: an empty list", key);
    for (size_t i = 0; i < items.n; i++) {
        const struct node *item = compile_item(&items, i);
        struct limit l;

        ok &= parse_limit(c, key, dimension, item, &l) &&
              add_limit(c, key, item, &l, q);
    }
    return ok;
}

/* ---- the map ---- */

struct quota_keys {
    const struct node *dimension[DIM_COUNT];
    uint32_t recipients_per_message;
};

static const struct schema_type limits = {
    "a limit such as \"500 per 24h\", or a list of them", compile_keep};

static const struct schema_row quota_rows[] = {
    {"messages", &limits, SCHEMA_AT(quota_keys, dimension[DIM_MESSAGES]),
     .help = "messages sent"},
    {"recipients", &limits, SCHEMA_AT(quota_keys, dimension[DIM_RECIPIENTS]),
     .help = "recipients of them"},
    {"external_recipients", &limits,
     SCHEMA_AT(quota_keys, dimension[DIM_EXTERNAL_RECIPIENTS]),
     .help = "recipients outside internal_domains"},
    {"bytes", &limits, SCHEMA_AT(quota_keys, dimension[DIM_BYTES]),
     .help = "octets sent, such as \"300MB per 1h\""},
    {"pace", &limits, SCHEMA_AT(quota_keys, dimension[DIM_PACE]),
     .help = "messages in a short time, to smooth bursts"},
    {"recipients_per_message", &schema_number,
     SCHEMA_AT(quota_keys, recipients_per_message), .min = 1,
     .max = RECIPIENTS_PER_MESSAGE_MAX, .unset = "100",
     .help = "recipients of one transaction; Gmail takes 100"},
    {"unique_recipients", &limits,
     SCHEMA_AT(quota_keys, dimension[DIM_UNIQUE_RECIPIENTS]),
     .help = "different recipients"},
    {"unique_external_recipients", &limits,
     SCHEMA_AT(quota_keys, dimension[DIM_UNIQUE_EXTERNAL_RECIPIENTS]),
     .help = "different recipients outside internal_domains"},
};

const struct schema compile_quota_schema = SCHEMA("quota", quota_rows);

static bool
read_quota_map(struct compile *c, const struct node *n, struct quota_limits *q)
{
    struct quota_keys keys = {.recipients_per_message = 0};
    bool ok = schema_read(c, &compile_quota_schema, n, n->at, &keys);

    for (unsigned i = 0; i < DIM_COUNT; i++)
        if (keys.dimension[i] != NULL)
            ok &= read_dimension(c, dimension_name((enum dimension)i),
                                 (enum dimension)i, keys.dimension[i], q);
    q->recipients_per_message = keys.recipients_per_message;
    if (ok && q->n == 0)
        return diag_error(c->diag, n->at, "quota: no limit is given");
    return ok;
}

bool
compile_read_quota(struct compile *c, const struct node *n, struct account *a)
{
    struct quota_limits *q = &a->quota;
    const struct preset *preset;
    struct suggest hint;
    char text[SUGGEST_TEXT];
    bool relay =
        a->smarthost != NULL && strcmp(a->smarthost->name, "gmail_relay") == 0;

    q->recipients_per_message = RECIPIENTS_PER_MESSAGE;
    if (n == NULL) {
        take_preset(find_preset(slice_of(relay ? "relay" : "workspace")), q);
        return true;
    }
    if (n->kind == NODE_MAP)
        return read_quota_map(c, n, q);
    preset = n->kind == NODE_SCALAR ? find_preset(n->text) : NULL;
    if (preset != NULL) {
        take_preset(preset, q);
        return true;
    }
    hint = suggest_start(n->kind == NODE_SCALAR ? n->text : SLICE_LIT(""));
    for (size_t i = 0; i < N_PRESETS; i++)
        suggest_try(&hint, slice_of(presets[i].name));
    return diag_error(c->diag, n->at, "quota: want %s, found %s%s",
                      compile_quota.form, node_show(n).text,
                      suggest_text(&hint, text));
}
