/* milter/ctl/tokens.c - gmroutectl tokens: age and state of access tokens.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/look.h"

struct listing {
    struct look look;
    bool json;
    size_t n;
};

static json_t *
json_token(const struct listing *l, const struct token_status *s)
{
    int64_t now_s = l->look.now_ms / 1000;

    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:s}", "account", s->identity,
        "state", token_state_name(s->state), "fetched",
        ctl_json_time(s->fetched_at_s), "age_s",
        s->fetched_at_s > 0 ? json_integer(now_s - s->fetched_at_s)
                            : json_null(),
        "expires", ctl_json_time(s->expires_at_s), "seconds_left",
        (json_int_t)(s->expires_at_s > now_s ? s->expires_at_s - now_s : 0),
        "next_try", ctl_json_time(s->next_try_at_s), "error", s->error);
}

static void
print_token(const struct listing *l, const struct token_status *s)
{
    int64_t now_s = l->look.now_ms / 1000;
    char age[FORMAT_MAX], left[FORMAT_MAX], next[FORMAT_MAX];

    printf("%-40s %-12s", s->identity, token_state_name(s->state));
    if (s->fetched_at_s > 0) {
        int64_t age_s = now_s > s->fetched_at_s ? now_s - s->fetched_at_s : 0;

        ctl_duration((uint64_t)age_s * 1000 + 1, age, sizeof age);
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
    struct listing *l = cookie;

    if (l->json)
        ctl_json_item(l->n, json_token(l, s));
    else
        print_token(l, s);
    l->n++;
    return true;
}

static int
show(struct listing *l, const char *account)
{
    char identity[IDENTITY_MAX + 1];
    struct token_status s;
    struct mailbox m;
    enum state_result r;

    if (account == NULL) {
        r = status_each(l->look.status, each_token, l);
    } else {
        if (!look_identity(l->look.policy, account, false, &m, identity))
            return CTL_USAGE;
        r = status_peek(l->look.status, m.id, &s);
        if (r == STATE_OK)
            each_token(l, &s);
    }
    if (r != STATE_OK && r != STATE_EEMPTY && l->n == 0) {
        fprintf(stderr,
                "gmroutectl: token status in %s: %s; is gmroute-token "
                "running?\n",
                l->look.policy->state.runtime, state_result_text(r));
        return CTL_USAGE;
    }
    if (l->json)
        ctl_json_end(l->n);
    if (r == STATE_EEMPTY)
        fprintf(stderr,
                "gmroutectl: %s has no token: it needs none, or none was ever "
                "asked for\n",
                identity);
    return r == STATE_OK ? CTL_GOOD : CTL_NO;
}

int
ctl_tokens(struct ctl *c, int argc, char **argv)
{
    struct listing l = {.json = c->json};
    int status = CTL_USAGE;

    if (argc > 2 || (argc > 1 && argv[1][0] == '-'))
        return ctl_usage("tokens", "[ACCOUNT] [--json]", "unknown word %s",
                         argv[argc - 1]);
    if (look_open(&l.look, c))
        status = show(&l, argv[1]);
    look_close(&l.look);
    return status;
}
