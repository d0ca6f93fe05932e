/* milter/ctl/look.c - see look.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter/base/stream.h"
#include "policy/suggest.h"
#include "policy/window.h"

bool
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
    k->now_ms = clock_wall_ms(&clock_real);
    if (k->quota != NULL && k->status != NULL)
        return true;
    fputs("gmroutectl: out of memory\n", stderr);
    return false;
}

void
look_close(struct look *k)
{
    quota_reader_free(k->quota);
    status_reader_free(k->status);
    hints_free(k->hints);
    policy_free(k->policy);
}

/* ---- which account is meant ---- */

static void
suggest_account(const struct policy *p, const char *word)
{
    struct suggest s = suggest_start(slice_of(word));
    char text[SUGGEST_TEXT];

    for (size_t i = 0; i < p->n_accounts; i++) {
        if (!p->accounts[i].is_template)
            suggest_try(&s, slice_of(p->accounts[i].name));
        if (strchr(word, '@') != NULL)
            suggest_try(&s, slice_of(p->accounts[i].address));
    }
    fprintf(stderr,
            "gmroutectl: %s is neither the name nor the address of an "
            "account%s\n",
            word, suggest_text(&s, text));
}

static bool
named(const struct account *a, struct mailbox *ret,
      char ret_identity[IDENTITY_MAX + 1])
{
    ret->account = a;
    snprintf(ret->address, sizeof ret->address, "%s", a->address);
    ret->id = mailbox_identity(a->address, a->smarthost->name, ret_identity);
    return ret->id != 0;
}

/* By address alone, whatever the smarthost: the named account first. */
static bool
by_address(const struct policy *p, const char *word, struct mailbox *ret,
           char ret_identity[IDENTITY_MAX + 1])
{
    if (strlen(word) > MAILBOX_MAX)
        return false;
    for (size_t i = 0; i < p->n_accounts; i++)
        if (!p->accounts[i].is_template &&
            slice_eq_nocase(slice_of(p->accounts[i].address), slice_of(word)))
            return named(&p->accounts[i], ret, ret_identity);
    for (size_t i = 0; i < p->n_accounts; i++)
        if (p->accounts[i].is_template &&
            mailbox_identity(word, p->accounts[i].smarthost->name,
                             ret_identity) != 0 &&
            policy_mailbox(p, ret_identity, ret))
            return true;
    return false;
}

bool
look_identity(const struct policy *p, const char *word, bool quiet,
              struct mailbox *ret, char ret_identity[IDENTITY_MAX + 1])
{
    const struct account *a = policy_account(p, word);

    if (a != NULL && !a->is_template)
        return named(a, ret, ret_identity);
    if (a == NULL && by_address(p, word, ret, ret_identity))
        return true;
    if (a == NULL && strlen(word) <= IDENTITY_MAX) { /* with its smarthost */
        for (size_t i = 0; i <= strlen(word); i++)
            ret_identity[i] = slice_lower(word[i]);
        if (policy_mailbox(p, ret_identity, ret))
            return true;
    }
    if (!quiet && a != NULL)
        fprintf(stderr,
                "gmroutectl: %s is a template: give the address of one of its "
                "mailboxes\n",
                word);
    else if (!quiet)
        suggest_account(p, word);
    return false;
}

/* ---- time ---- */

int
look_no_quota(const struct look *k, enum state_result r)
{
    fprintf(stderr,
            "gmroutectl: quota memory in %s: %s; is gmroute-deliver running, "
            "and may this user read it?\n",
            k->policy->state.runtime, state_result_text(r));
    return CTL_USAGE;
}

int64_t
look_unix_ms(const struct look *k, const struct quota_view *v,
             uint64_t quota_ms)
{
    if (quota_ms == 0 || quota_ms >= WINDOW_NEVER - 1)
        return 0;
    return k->now_ms + (int64_t)quota_ms - (int64_t)v->now_ms;
}

/* In whole seconds, so that what is said to have come has: up for the future,
 * down for the past. */
static int64_t
seconds(const struct look *k, int64_t unix_ms)
{
    return (unix_ms + (unix_ms > k->now_ms ? 999 : 0)) / 1000;
}

void
look_json_time(const struct look *k, json_t *j, const char *name,
               int64_t unix_ms)
{
    int64_t s = seconds(k, unix_ms);
    char in_s[64];

    snprintf(in_s, sizeof in_s, "%s_in_s", name);
    json_object_set_new(j, name, ctl_json_time(s));
    json_object_set_new(j, in_s,
                        s == 0
                            ? json_null()
                            : json_integer((json_int_t)(s - k->now_ms / 1000)));
}

void
look_when(const struct look *k, int64_t unix_ms, char *ret, size_t size)
{
    bool past = unix_ms < k->now_ms;
    char now[FORMAT_MAX], then[FORMAT_MAX], far[FORMAT_MAX];
    const char *clock = then;

    ctl_time(k->now_ms / 1000, now, sizeof now);
    ctl_time(seconds(k, unix_ms), then, sizeof then);
    ctl_duration((uint64_t)(past ? k->now_ms - unix_ms : unix_ms - k->now_ms),
                 far, sizeof far);
    if (strncmp(now, then, 10) == 0) /* the day only when it is another one */
        clock += 11;
    if (past)
        snprintf(ret, size, "%s (%s ago)", clock, far);
    else
        snprintf(ret, size, "%s%s (%s)", unix_ms > k->now_ms ? "in " : "", far,
                 clock);
}

unsigned
look_terminal_width(void)
{
    struct winsize w;

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0
               ? w.ws_col
               : 0;
}

/* ---- daemons ---- */

void
look_daemon(const struct look *k, enum segment_kind kind,
            struct look_daemon *ret)
{
    *ret = (struct look_daemon){0};
    ret->result = segment_inspect(k->policy->state.runtime, kind, &ret->info,
                                  ret->why, sizeof ret->why);
    ret->up = ret->result == STATE_OK &&
              ret->info.heartbeat_s >= k->now_ms / 1000 - LOOK_BEAT_S;
}

static int
listens_unix(const char *path, pid_t *ret_pid, char *why, size_t size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t len = sizeof peer;
    int fd, n = snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    bool ok;

    snprintf(why, size, "%s is too long", path);
    if (n < 0 || (size_t)n >= sizeof addr.sun_path)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ok = fd >= 0 &&
         (connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 ||
          errno == EAGAIN);
    snprintf(why, size, "%s: %s", path, ok ? "answers" : strerror(errno));
    if (!ok) {
        int result = errno == EACCES || fd < 0 ? -1 : 0;

        if (fd >= 0)
            close(fd);
        return result;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        *ret_pid = peer.pid; /* who listens; 0 when the queue is full */
    close(fd);
    return 1;
}

/* "PORT@HOST" */
static int
listens_inet(const char *endpoint, char *why, size_t size)
{
    enum { CONNECT_MS = 1000 };
    const char *at = strchr(endpoint, '@');
    unsigned long port = strtoul(endpoint, NULL, 10);
    struct stream *s;

    snprintf(why, size, "%s", endpoint);
    if (port == 0 || port > 65535)
        return -1;
    s = stream_connect(at != NULL ? at + 1 : "127.0.0.1", (uint16_t)port,
                       clock_boot_ms(&clock_real) + CONNECT_MS, why, size);
    stream_close(s);
    return s != NULL;
}

int
look_listens(const char *at, pid_t *ret_pid, char *why, size_t size)
{
    pid_t pid;

    if (ret_pid == NULL)
        ret_pid = &pid;
    *ret_pid = 0;
    if (at[0] == '/')
        return listens_unix(at, ret_pid, why, size);
    if (strncmp(at, "unix:", 5) == 0)
        return listens_unix(at + 5, ret_pid, why, size);
    if (strncmp(at, "local:", 6) == 0)
        return listens_unix(at + 6, ret_pid, why, size);
    if (strncmp(at, "inet:", 5) == 0)
        return listens_inet(at + 5, why, size);
    snprintf(why, size, "%s", at);
    return -1;
}

/* ---- all accounts ---- */

struct gather {
    const struct look *k;
    struct account_rows *rows;
    size_t room;
    bool nomem;
};

static void
take_windows(const struct look *k, const struct quota_view *v,
             struct account_row *r)
{
    uint64_t since_ms = 0, room_ms = 0;

    for (unsigned i = 0; i < v->n; i++) {
        uint64_t used = v->window[i].used, limit = v->window[i].limit;
        unsigned percent = ctl_percent(used, limit);

        if (v->window[i].dimension == DIM_PACE)
            continue;
        if (!r->has_window || percent > r->percent) {
            r->has_window = true;
            r->dimension = v->window[i].dimension;
            r->window_ms = v->window[i].window_ms;
            r->used = used;
            r->limit = limit;
            r->percent = percent;
        }
        if (v->window[i].room_at_ms <= v->now_ms)
            continue;
        /* Full since the first of them, until the last. */
        if (!r->is_full || v->window[i].full_since_ms < since_ms)
            since_ms = v->window[i].full_since_ms;
        if (v->window[i].room_at_ms > room_ms)
            room_ms = v->window[i].room_at_ms;
        r->is_full = true;
    }
    r->full_since_ms = look_unix_ms(k, v, since_ms);
    r->room_at_ms = look_unix_ms(k, v, room_ms);
}

static void
take_row(const struct look *k, const struct quota_view *v,
         struct account_row *r)
{
    struct token_status token;
    uint32_t recipients;

    *r = (struct account_row){
        .id = v->id,
        .identity = r->identity,
        .state = v->state,
        .until_ms = look_unix_ms(k, v, v->state_until_ms),
        .waiting_messages = v->waiting_messages,
        .waiting_recipients = v->waiting_recipients,
        .sessions_open = v->sessions_open,
        .sessions_busy = v->sessions_busy,
        .sent = v->sent,
        .refused = v->refused,
        .deferred = v->deferred,
        .in_doubt = v->in_doubt,
        .logins = v->logins,
    };
    snprintf(r->reason, sizeof r->reason, "%s", v->state_reason);
    take_windows(k, v, r);
    hints_sum(k->hints, v->id, (uint32_t)(k->now_ms / 60000),
              &r->coming_messages, &recipients);
    r->has_token = status_peek(k->status, v->id, &token) == STATE_OK;
    if (r->has_token)
        r->token = token.state;
}

static bool
gather_one(void *cookie, const struct quota_view *v)
{
    struct gather *g = cookie;
    struct account_rows *a = g->rows;

    if (a->n == g->room) {
        size_t room = g->room == 0 ? 64 : g->room * 2;
        struct account_row *more = realloc(a->row, room * sizeof *more);

        if (more == NULL)
            goto nomem;
        a->row = more;
        g->room = room;
    }
    a->row[a->n].identity = strdup(v->identity);
    if (a->row[a->n].identity == NULL)
        goto nomem;
    take_row(g->k, v, &a->row[a->n++]);
    return true;
nomem:
    g->nomem = true;
    return false;
}

static int
by_identity(const void *a, const void *b)
{
    const struct account_row *x = a, *y = b;

    return strcmp(x->identity, y->identity);
}

enum state_result
look_accounts(const struct look *k, struct account_rows *ret)
{
    struct gather g = {.k = k, .rows = ret};
    enum state_result r;

    *ret = (struct account_rows){0};
    r = quota_each(k->quota, gather_one, &g);
    if (g.nomem)
        return STATE_ESYSTEM;
    if (r == STATE_EBUSY || (r == STATE_ECORRUPT && ret->n > 0)) {
        ret->partial = true;
        r = STATE_OK;
    }
    if (ret->n > 0)
        qsort(ret->row, ret->n, sizeof *ret->row, by_identity);
    return r;
}

void
look_accounts_free(struct account_rows *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->row[i].identity);
    free(a->row);
}

void
look_partial(const struct account_rows *a)
{
    if (a->partial)
        fputs("gmroutectl: some accounts cannot be read: their memory is "
              "damaged, or the agent died while it wrote them; restart "
              "gmroute-deliver, which makes it anew from the ledger\n",
              stderr);
}
