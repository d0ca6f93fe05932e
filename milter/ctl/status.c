/* milter/ctl/status.c - gmroutectl status, quota and tokens: what shared
 * memory says.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/ctl.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"
#include "policy/window.h"

struct look { /* at the memory, read-only */
    struct policy *policy;
    struct quota_reader *quota;
    struct status_reader *status;
    struct hints *hints; /* NULL = not there */
    json_t *list;        /* NULL = text */
    const char *only;    /* one account; NULL = all */
    size_t n;
    uint64_t now_ms; /* quota time is about Unix time */
};

static bool
look_open(struct look *k, const struct ctl *c)
{
    char err[200];

    *k = (struct look){0};
    k->policy = ctl_load(c, false);
    if (k->policy == NULL)
        return false;
    k->quota = quota_reader_new(k->policy->state.runtime, &clock_real);
    k->status = status_reader_new(k->policy->state.runtime, false);
    if (hints_open_reader(&k->hints, k->policy->state.runtime, err,
                          sizeof err) != STATE_OK)
        k->hints = NULL;
    k->now_ms = (uint64_t)clock_wall_ms(&clock_real);
    if (c->json)
        k->list = json_array();
    return k->quota != NULL && k->status != NULL;
}

static void
look_close(struct look *k)
{
    json_decref(k->list);
    quota_reader_free(k->quota);
    status_reader_free(k->status);
    hints_free(k->hints);
    policy_free(k->policy);
}

/* An account is named by its identity, its address, or its name in the
 * configuration. */
static bool
is_wanted(const struct look *k, const char *identity)
{
    const struct account *a;

    if (k->only == NULL || strcmp(k->only, identity) == 0)
        return true;
    a = policy_account(k->policy, k->only);
    return a != NULL && strncmp(a->address, identity, strlen(a->address)) == 0;
}

static void
no_memory(const struct look *k, enum state_result result)
{
    fprintf(stderr,
            "gmroutectl: quota memory in %s: %s; is gmroute-deliver running, "
            "and may this user read it?\n",
            k->policy->state.runtime, state_result_text(result));
}

/* ---- quota ---- */

static json_t *
json_window(const struct look *k, const struct quota_view *v, unsigned i)
{
    uint64_t limit = v->window[i].limit, used = v->window[i].used;
    uint64_t at = v->window[i].room_at_ms;

    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "dimension",
                     dimension_name(v->window[i].dimension), "window_s",
                     (json_int_t)(v->window[i].window_ms / 1000), "limit",
                     (json_int_t)limit, "used", (json_int_t)used, "room",
                     (json_int_t)(used < limit ? limit - used : 0),
                     "room_returns",
                     at == WINDOW_NEVER || at <= k->now_ms
                         ? json_null()
                         : ctl_json_time((int64_t)(at / 1000)));
}

static json_t *
json_quota(const struct look *k, const struct quota_view *v)
{
    json_t *windows = json_array();

    for (unsigned i = 0; i < v->n; i++)
        json_array_append_new(windows, json_window(k, v, i));
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:i, s:i, s:I, s:I, s:I, s:I, s:o}", "account",
        v->identity, "state", account_state_name(v->state), "reason",
        v->state_reason, "until",
        ctl_json_time((int64_t)(v->state_until_ms / 1000)), "waiting_messages",
        (int)v->waiting_messages, "waiting_recipients",
        (int)v->waiting_recipients, "sent", (json_int_t)v->sent, "refused",
        (json_int_t)v->refused, "deferred", (json_int_t)v->deferred, "in_doubt",
        (json_int_t)v->in_doubt, "windows", windows);
}

static void
print_quota(const struct look *k, const struct quota_view *v)
{
    char text[40];

    printf("%s  %s", v->identity, account_state_name(v->state));
    if (v->state_until_ms > k->now_ms) {
        ctl_duration(v->state_until_ms - k->now_ms, text, sizeof text);
        printf(" for %s", text);
    }
    if (v->state_reason[0] != 0)
        printf(" (%s)", v->state_reason);
    if (v->waiting_messages > 0)
        printf(", %u messages wait", v->waiting_messages);
    putchar('\n');
    for (unsigned i = 0; i < v->n; i++) {
        uint64_t limit = v->window[i].limit, used = v->window[i].used;
        uint64_t at = v->window[i].room_at_ms;

        ctl_duration(v->window[i].window_ms, text, sizeof text);
        printf("    %-20s %10" PRIu64 " of %10" PRIu64
               " used in %-12s room %" PRIu64,
               dimension_name(v->window[i].dimension), used, limit, text,
               used < limit ? limit - used : 0);
        if (at != WINDOW_NEVER && at > k->now_ms) {
            ctl_duration(at - k->now_ms, text, sizeof text);
            printf(", returns in %s", text);
        }
        putchar('\n');
    }
}

static bool
each_quota(void *cookie, const struct quota_view *v)
{
    struct look *k = cookie;

    if (!is_wanted(k, v->identity))
        return true;
    k->n++;
    if (k->list != NULL)
        json_array_append_new(k->list, json_quota(k, v));
    else
        print_quota(k, v);
    return true;
}

int
ctl_quota(struct ctl *c, int argc, char **argv)
{
    struct look k;
    enum state_result result;
    int status = CTL_USAGE;

    if (argc > 2)
        return ctl_usage("quota", "[ACCOUNT] [--json]", "unknown word %s",
                         argv[2]);
    if (!look_open(&k, c))
        goto done;
    k.only = argc > 1 ? argv[1] : NULL;
    result = quota_each(k.quota, each_quota, &k);
    if (result != STATE_OK) {
        no_memory(&k, result);
        goto done;
    }
    status = k.only != NULL && k.n == 0 ? CTL_NO : CTL_GOOD;
    if (status == CTL_NO)
        fprintf(stderr, "gmroutectl: %s: no such account has sent yet\n",
                k.only);
    if (k.list != NULL)
        ctl_print_json(json_incref(k.list));
done:
    look_close(&k);
    return status;
}

/* ---- tokens ---- */

static json_t *
json_token(const struct token_status *s)
{
    int64_t now_s = (int64_t)time(NULL);

    return json_pack(
        "{s:s, s:s, s:o, s:o, s:I, s:o, s:s}", "account", s->identity, "state",
        token_state_name(s->state), "fetched", ctl_json_time(s->fetched_at_s),
        "expires", ctl_json_time(s->expires_at_s), "seconds_left",
        (json_int_t)(s->expires_at_s > now_s ? s->expires_at_s - now_s : 0),
        "next_try", ctl_json_time(s->next_try_at_s), "error", s->error);
}

static void
print_token(const struct token_status *s)
{
    int64_t now_s = (int64_t)time(NULL);
    char age[40], left[40], next[40];

    printf("%-40s %-12s", s->identity, token_state_name(s->state));
    if (s->fetched_at_s > 0) {
        ctl_duration((uint64_t)(now_s - s->fetched_at_s) * 1000 + 1, age,
                     sizeof age);
        printf(" %s old,", age);
        if (s->expires_at_s > now_s) {
            ctl_duration((uint64_t)(s->expires_at_s - now_s) * 1000, left,
                         sizeof left);
            printf(" %s left", left);
        } else {
            printf(" expired");
        }
    }
    if (s->next_try_at_s > now_s) {
        ctl_duration((uint64_t)(s->next_try_at_s - now_s) * 1000, next,
                     sizeof next);
        printf(", next renewal in %s", next);
    }
    putchar('\n');
    if (s->error[0] != 0)
        printf("    %s\n", s->error);
}

static bool
each_token(void *cookie, const struct token_status *s)
{
    struct look *k = cookie;

    if (!is_wanted(k, s->identity))
        return true;
    k->n++;
    if (k->list != NULL)
        json_array_append_new(k->list, json_token(s));
    else
        print_token(s);
    return true;
}

int
ctl_tokens(struct ctl *c, int argc, char **argv)
{
    struct look k;
    enum state_result result;
    int status = CTL_USAGE;

    if (argc > 2)
        return ctl_usage("tokens", "[ACCOUNT] [--json]", "unknown word %s",
                         argv[2]);
    if (!look_open(&k, c))
        goto done;
    k.only = argc > 1 ? argv[1] : NULL;
    result = status_each(k.status, each_token, &k);
    if (result != STATE_OK) {
        fprintf(stderr,
                "gmroutectl: token status in %s: %s; is gmroute-token "
                "running?\n",
                k.policy->state.runtime, state_result_text(result));
        goto done;
    }
    status = k.only != NULL && k.n == 0 ? CTL_NO : CTL_GOOD;
    if (k.list != NULL)
        ctl_print_json(json_incref(k.list));
done:
    look_close(&k);
    return status;
}

/* ---- status ---- */

struct sums {
    size_t accounts, by_state[ACCOUNT_STATES];
    uint64_t sent, refused, deferred, in_doubt, waiting, open;
};

static bool
each_sum(void *cookie, const struct quota_view *v)
{
    struct sums *s = cookie;

    s->accounts++;
    if (v->state < ACCOUNT_STATES)
        s->by_state[v->state]++;
    s->sent += v->sent;
    s->refused += v->refused;
    s->deferred += v->deferred;
    s->in_doubt += v->in_doubt;
    s->waiting += v->waiting_messages;
    s->open += v->sessions_open;
    return true;
}

struct token_sums {
    size_t accounts, by_state[TOKEN_STATES];
};

static bool
each_token_sum(void *cookie, const struct token_status *s)
{
    struct token_sums *t = cookie;

    t->accounts++;
    if (s->state < TOKEN_STATES)
        t->by_state[s->state]++;
    return true;
}

static json_t *
json_states(const size_t *by_state, size_t n, const char *(*name)(unsigned))
{
    json_t *j = json_object();

    for (unsigned i = 0; i < n; i++)
        json_object_set_new(j, name(i), json_integer((json_int_t)by_state[i]));
    return j;
}

static const char *
account_name(unsigned i)
{
    return account_state_name((enum account_state)i);
}

static const char *
token_name(unsigned i)
{
    return token_state_name((enum token_state)i);
}

static void
print_states(const char *what, size_t total, const size_t *by_state, size_t n,
             const char *(*name)(unsigned))
{
    printf("%-9s %zu", what, total);
    for (unsigned i = 0; i < n; i++)
        if (by_state[i] > 0)
            printf(", %zu %s", by_state[i], name(i));
    putchar('\n');
}

static json_t *
json_status(const struct look *k, enum state_result quota, const struct sums *s,
            enum state_result tokens, const struct token_sums *t)
{
    json_t *j = json_pack(
        "{s:{s:s, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I}, s:{s:s, s:i, s:o}}",
        "deliver", "memory", state_result_text(quota), "accounts",
        (int)s->accounts, "states",
        json_states(s->by_state, ACCOUNT_STATES, account_name), "sent",
        (json_int_t)s->sent, "refused", (json_int_t)s->refused, "deferred",
        (json_int_t)s->deferred, "in_doubt", (json_int_t)s->in_doubt,
        "waiting_messages", (json_int_t)s->waiting, "sessions",
        (json_int_t)s->open, "token", "memory", state_result_text(tokens),
        "accounts", (int)t->accounts, "states",
        json_states(t->by_state, TOKEN_STATES, token_name));

    if (k->hints != NULL)
        json_object_set_new(
            j, "milter",
            json_pack(
                "{s:I, s:I, s:I, s:I, s:I, s:I}", "messages",
                (json_int_t)hints_stat(k->hints, HINTS_MESSAGES), "routed",
                (json_int_t)hints_stat(k->hints, HINTS_ROUTED), "rejected",
                (json_int_t)hints_stat(k->hints, HINTS_REJECTED), "deferred",
                (json_int_t)hints_stat(k->hints, HINTS_DEFERRED), "forged",
                (json_int_t)hints_stat(k->hints, HINTS_FORGED), "failed",
                (json_int_t)hints_stat(k->hints, HINTS_FAILED)));
    return j;
}

static void
print_status(const struct look *k, enum state_result quota,
             const struct sums *s, enum state_result tokens,
             const struct token_sums *t)
{
    if (quota != STATE_OK) {
        no_memory(k, quota);
    } else {
        print_states("accounts", s->accounts, s->by_state, ACCOUNT_STATES,
                     account_name);
        printf("delivery  %" PRIu64 " sent, %" PRIu64 " refused, %" PRIu64
               " deferred, %" PRIu64 " in doubt; %" PRIu64
               " messages wait; %" PRIu64 " sessions open\n",
               s->sent, s->refused, s->deferred, s->in_doubt, s->waiting,
               s->open);
    }
    if (tokens != STATE_OK)
        printf("tokens    no memory: %s; is gmroute-token running?\n",
               state_result_text(tokens));
    else
        print_states("tokens", t->accounts, t->by_state, TOKEN_STATES,
                     token_name);
    if (k->hints == NULL)
        puts("milter    no memory; is gmroute-milter running?");
    else
        printf("milter    %" PRIu64 " messages; recipients: %" PRIu64
               " routed, %" PRIu64 " rejected, %" PRIu64 " deferred; %" PRIu64
               " forged tags refused\n",
               hints_stat(k->hints, HINTS_MESSAGES),
               hints_stat(k->hints, HINTS_ROUTED),
               hints_stat(k->hints, HINTS_REJECTED),
               hints_stat(k->hints, HINTS_DEFERRED),
               hints_stat(k->hints, HINTS_FORGED));
}

int
ctl_status(struct ctl *c, int argc, char **argv)
{
    struct token_sums t = {0};
    struct sums s = {0};
    enum state_result quota, tokens;
    struct look k;
    int status = CTL_USAGE;

    if (argc > 1)
        return ctl_usage("status", "[--json]", "unknown word %s", argv[1]);
    if (look_open(&k, c)) {
        quota = quota_each(k.quota, each_sum, &s);
        tokens = status_each(k.status, each_token_sum, &t);
        if (c->json)
            ctl_print_json(json_status(&k, quota, &s, tokens, &t));
        else
            print_status(&k, quota, &s, tokens, &t);
        status = quota == STATE_OK && tokens == STATE_OK && k.hints != NULL
                     ? CTL_GOOD
                     : CTL_NO;
    }
    look_close(&k);
    return status;
}
