/* milter/ctl/verify.c - gmroutectl verify: really log in, and say what failed
 * and what to do about it.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/ctl/access.h"
#include "milter/ctl/ctl.h"
#include "milter/ctl/mail_check.h"

#define SYNOPSIS "ACCOUNT [--sending] [--json]"

struct verify {
    const struct ctl *c;
    const struct policy *p;
    struct mailbox m;
    struct access access;
    struct token_status status; /* id 0: the daemon says nothing */
    json_t *checks;             /* NULL = text */
    bool good;
};

void
ctl_helo(const struct policy *p, char *ret, size_t size)
{
    if (p->hostname != NULL)
        snprintf(ret, size, "%s", p->hostname);
    else if (gethostname(ret, size - 1) != 0)
        snprintf(ret, size, "localhost");
    ret[size - 1] = '\0';
}

/* ---- the token ---- */

static bool
is_renewed(const struct token_status *s)
{
    return s->id == 0 || s->state == TOKEN_OK || s->state == TOKEN_NONE;
}

static void
look_at_status(struct verify *v)
{
    struct status_reader *r = status_reader_new(v->p->state.runtime, false);

    if (r == NULL || status_peek(r, v->m.id, &v->status) != STATE_OK)
        v->status = (struct token_status){0};
    status_reader_free(r);
}

static void
print_secret(const struct verify *v)
{
    const char *kind = v->access.bearer ? "token" : "password";
    int64_t left_s = v->access.expires_at_s - clock_wall_ms(&clock_real) / 1000;
    char left[40];

    if (v->access.secret.len == 0) {
        printf("%-9s FAILED\n    %s\n", kind, v->access.why);
    } else {
        printf("%-9s from %s", kind, v->access.source);
        if (v->access.bearer) {
            ctl_duration(left_s > 0 ? (uint64_t)left_s * 1000 : 0, left,
                         sizeof left);
            printf(", %s left", left);
        }
        putchar('\n');
    }
    if (v->access.no_mail_scope)
        printf("    FAILED: %s\n    -> %s\n", mail_fault_name(MAIL_SCOPE),
               mail_fault_remedy(MAIL_SCOPE));
    if (!is_renewed(&v->status))
        printf("    FAILED: %s: gmroute-token cannot renew it: %s\n",
               token_state_name(v->status.state), v->status.error);
}

static json_t *
json_secret(const struct verify *v)
{
    return json_pack(
        "{s:s, s:b, s:s, s:o, s:b, s:s, s:s}", "kind",
        v->access.bearer ? "token" : "password", "there",
        (int)(v->access.secret.len > 0), "source", v->access.source, "expires",
        ctl_json_time(v->access.expires_at_s), "mail_scope",
        (int)!v->access.no_mail_scope, "state",
        v->status.id != 0 ? token_state_name(v->status.state) : "", "error",
        v->access.secret.len == 0 ? v->access.why : v->status.error);
}

/* ---- one server ---- */

static const char *
login_fault(const struct verify *v, struct mail_verdict *r)
{
    if (r->fault == MAIL_TOKEN_REFUSED && v->access.no_mail_scope)
        r->fault = MAIL_SCOPE;
    return mail_fault_name(r->fault);
}

static void
check(struct verify *v, const struct mail_server *s)
{
    char helo[256], port[20];
    struct mail_credentials who = {
        .sasl = {.user = v->m.address, .secret = v->access.secret},
        .bearer = v->access.bearer,
        .helo = helo};
    struct mail_verdict r;
    const char *name;

    ctl_helo(v->p, helo, sizeof helo);
    mail_check(s, &who, MAIL_CHECK_MS, &r);
    name = login_fault(v, &r);
    v->good &= r.fault == MAIL_OK;
    if (v->checks != NULL) {
        json_array_append_new(
            v->checks,
            json_pack("{s:s, s:s, s:i, s:b, s:b, s:s, s:s, s:s, s:s}",
                      "protocol", mail_protocol_name(s->protocol), "host",
                      s->host, "port", (int)s->port, "starttls",
                      (int)s->starttls, "sends", (int)s->used, "result", name,
                      "said", r.said, "remedy", mail_fault_remedy(r.fault),
                      "tls", r.tls));
        return;
    }
    snprintf(port, sizeof port, ":%u%s", s->port,
             s->starttls ? " STARTTLS" : "");
    printf("%-9s %s%s: ", mail_protocol_name(s->protocol), s->host, port);
    if (r.fault == MAIL_OK)
        printf("ok (%s)\n", r.tls);
    else
        printf("FAILED: %s\n    %s\n    -> %s\n", name, r.said,
               mail_fault_remedy(r.fault));
    fflush(stdout); /* the next one may take its time */
}

/* ---- all ---- */

static void
check_all(struct verify *v, bool sending)
{
    struct mail_server servers[MAIL_SERVERS_MAX];
    unsigned n = mail_servers(v->m.account->smarthost, servers);

    for (unsigned i = 0; i < n; i++)
        if (servers[i].used || !sending)
            check(v, &servers[i]);
}

static int
run(struct verify *v, bool sending)
{
    bool there = access_get(v->p, &v->m, &v->access);

    look_at_status(v);
    v->good = there && !v->access.no_mail_scope && is_renewed(&v->status);
    if (v->c->json)
        v->checks = json_array();
    else
        print_secret(v);
    if (there)
        check_all(v, sending);
    if (v->c->json)
        ctl_print_json(json_pack(
            "{s:s, s:s, s:o, s:o, s:b}", "account", v->m.address, "smarthost",
            v->m.account->smarthost->name, "secret", json_secret(v), "checks",
            v->checks, "good", (int)v->good));
    access_free(&v->access);
    return v->good ? CTL_GOOD : CTL_NO;
}

int
ctl_verify(struct ctl *c, int argc, char **argv)
{
    struct verify v = {.c = c};
    const char *word = NULL;
    struct policy *p;
    bool sending = false;
    int status = CTL_USAGE;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--sending") == 0)
            sending = true;
        else if (argv[i][0] == '-' || word != NULL)
            return ctl_usage("verify", SYNOPSIS, "unknown word %s", argv[i]);
        else
            word = argv[i];
    }
    if (word == NULL)
        return ctl_usage("verify", SYNOPSIS, "want an account");
    if (!access_start())
        return CTL_USAGE;
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_NO;
    v.p = p;
    if (ctl_mailbox(p, word, &v.m)) {
        if (v.m.account->auth != AUTH_NONE)
            status = run(&v, sending);
        else
            fprintf(stderr,
                    "gmroutectl: %s does not log in (auth: none): nothing to "
                    "verify\n",
                    v.m.address);
    }
    policy_free(p);
    return status;
}
