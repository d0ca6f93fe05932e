/* milter/ctl/doctor_host.c - the host: who runs, who may reach what, what is
 * there and what is nearly full.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"
#include "milter/state/status.h"

enum {
    FREE_MIN = 100 << 20, /* octets: a day's ledger of a busy host */
    FREE_PERCENT = 2,
    SKEW_MAX_S = 60, /* a service account's claims are good for that */
};

/* ---- who runs ---- */

static void
daemons(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2; i++) {
        const struct daemon_fact *d = &k->host->daemon[i];

        if (d->up)
            continue;
        found(f, "%s does not run: %s", d->program, d->why);
        advise(f, "systemctl start %s; journalctl -u %s says why it ended",
               d->program, d->program);
    }
}

static void
listening(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2; i++) {
        const struct socket_fact *s = &k->host->socket[i];
        const char *program = i == 0 ? "gmroute-milter" : "gmroute-deliver";

        if (s->listens != 0)
            continue;
        found(f, "nobody listens at the %s's socket: %s", s->what, s->why);
        advise(f, "systemctl start %s; journalctl -u %s says why it ended",
               program, program);
    }
}

/* ---- sockets ---- */

static void
mta_user(const struct doctor_case *k, struct findings *f)
{
    if (k->host->mta_user_exists)
        return;
    found(f, "the MTA's user %s does not exist", k->host->mta_user);
    advise(f, "set mail_owner in main.cf to the user that Postfix was "
              "installed with: postfix");
}

static void
socket_reach(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2; i++) {
        const struct socket_fact *s = &k->host->socket[i];

        if (s->blocked_at == NULL)
            continue;
        found(f,
              "the MTA's user %s does not get to the %s's socket: it is "
              "stopped at %s",
              k->host->mta_user, s->what, s->blocked_at);
        if (strcmp(s->blocked_at, s->file.path) == 0) {
            mend(f, "chgrp %s %s", k->host->mta_user,
                 mta_quote(k->arena, s->file.path));
            mend(f, "chmod 0660 %s", mta_quote(k->arena, s->file.path));
        } else if (strcmp(s->blocked_at, s->directory.path) == 0) {
            mend(f, "chgrp %s %s", k->host->mta_user,
                 mta_quote(k->arena, s->directory.path));
            mend(f, "chmod 2750 %s", mta_quote(k->arena, s->directory.path));
        } else {
            mend(f, "chmod o+x %s", mta_quote(k->arena, s->blocked_at));
        }
    }
}

static void
socket_open(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2; i++) {
        const struct socket_fact *s = &k->host->socket[i];

        if (!s->others_may)
            continue;
        found(f, "every user of this host can connect to the %s's socket, %s",
              s->what, s->file.path);
        mend(f, "chmod o= %s", mta_quote(k->arena, s->directory.path));
    }
}

/* Whoever may write a directory on the way can put his own socket there. */
static void
socket_parent(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2; i++) {
        const struct socket_fact *s = &k->host->socket[i];

        if (s->world_parent == NULL)
            continue;
        found(f, "everybody may write %s, above the %s's socket",
              s->world_parent, s->what);
        if (strcmp(s->world_parent, s->directory.path) == 0)
            mend(f, "chmod o-w %s", mta_quote(k->arena, s->world_parent));
        else
            advise(f, "let %s listen below /run or /var",
                   i == 0 ? "milter" : "deliver");
    }
}

static void
socket_link(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 2 && k->sendmail != NULL; i++) {
        const struct socket_fact *s = &k->host->socket[i];

        if (!s->file.is_link)
            continue;
        found(f, "the %s's socket, %s, is a symbolic link", s->what,
              s->file.path);
        advise(f, "give %s the path that it leads to: %s",
               i == 0 ? "milter.listen and S=" : "deliver.listen and A=",
               s->file.leads_to);
    }
}

static void
labels(const struct doctor_case *k, struct findings *f)
{
    const char *path = mta_socket_path(k->policy->deliver.listen), *missing;
    const char *name = path != NULL ? strrchr(path, '/') : NULL;

    if (name == NULL || k->host->socket[1].listens != 1 || k->mta == NULL)
        return;
    missing = "";
    for (unsigned i = 0; i < TICKET_QUEUES && missing != NULL; i++) {
        const struct file_fact *l = &k->host->label[i];

        if (l->error == 0 && l->is_link && strcmp(l->leads_to, name + 1) == 0)
            continue;
        missing = arena_printf(k->arena, "%s%sq%02u.sock", missing,
                               missing[0] != '\0' ? ", " : "", i);
        if (missing != NULL && strlen(missing) < 10)
            found(f,
                  "in %s a queue label's link is missing or leads "
                  "elsewhere",
                  k->host->socket[1].directory.path);
        mend(f, "ln -sfn %s %s", mta_quote(k->arena, name + 1),
             mta_quote(k->arena, l->path));
    }
}

/* ---- directories ---- */

static void
state(const struct doctor_case *k, struct findings *f)
{
    const struct file_fact *s = &k->host->state;
    const char *path = mta_quote(k->arena, s->path);

    if (s->error != 0) {
        found(f, "state.directory %s: %s", s->path, strerror(s->error));
        mend(f, "install -d -m 0750 %s", path);
    } else if (!s->is_directory) {
        found(f, "state.directory %s is no directory", s->path);
        advise(f, "name a directory in state: {directory: ...}");
    } else if ((s->mode & 0002) != 0) {
        found(f, "everybody may write state.directory %s", s->path);
        mend(f, "chmod o-w %s", path);
    } else if ((s->mode & 0300) != 0300 ||
               (k->host->has_agent && k->host->agent != 0 &&
                k->host->agent != s->uid && (s->mode & 0020) == 0)) {
        found(f,
              "the agent cannot write state.directory %s (mode %04o, "
              "user id %u)",
              s->path, s->mode, (unsigned)s->uid);
        if (k->host->has_agent && k->host->agent != s->uid)
            mend(f, "chown %u %s", (unsigned)k->host->agent, path);
        mend(f, "chmod u+rwx %s", path);
    }
}

static void
ledger_owner(const struct doctor_case *k, struct findings *f)
{
    const struct file_fact *l = &k->host->ledger;

    if (l->error != 0 || !k->host->has_agent || k->host->agent == 0 ||
        k->host->agent == l->uid)
        return;
    found(f, "%s belongs to user id %u, and the agent runs as %u", l->path,
          (unsigned)l->uid, (unsigned)k->host->agent);
    mend(f, "chown %u %s*", (unsigned)k->host->agent,
         mta_quote(k->arena, l->path));
}

static void
state_volatile(const struct doctor_case *k, struct findings *f)
{
    if (k->host->space[0].error != 0 || !k->host->space[0].is_tmpfs)
        return;
    found(f, "state.directory %s lies in memory (tmpfs)",
          k->host->space[0].path);
    advise(f, "in %s: state: {directory: /var/lib/gmroute}", k->policy->file);
}

static void
runtime(const struct doctor_case *k, struct findings *f)
{
    const struct file_fact *r = &k->host->runtime;
    const char *path = mta_quote(k->arena, r->path);

    if (r->error != 0) {
        found(f, "state.runtime %s: %s", r->path, strerror(r->error));
        mend(f, "install -d -m 0750 %s", path);
    } else if (!r->is_directory) {
        found(f, "state.runtime %s is no directory", r->path);
        advise(f, "name a directory in state: {runtime: ...}");
    } else if ((r->mode & 0002) != 0) {
        found(f, "everybody may write state.runtime %s", r->path);
        mend(f, "chmod o-w %s", path);
    }
}

static void
runtime_disk(const struct doctor_case *k, struct findings *f)
{
    if (k->host->space[1].error != 0 || k->host->space[1].is_tmpfs)
        return;
    found(f, "state.runtime %s does not lie in memory (tmpfs)",
          k->host->space[1].path);
    advise(f, "in %s: state: {runtime: /run/gmroute}", k->policy->file);
}

static void
space(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < 3; i++) {
        const struct space_fact *s = &k->host->space[i];
        uint64_t least = s->size / 100 * FREE_PERCENT;

        /* Memory has room for what is not there yet: it is made small. */
        if (!s->is_tmpfs && least < FREE_MIN)
            least = FREE_MIN;
        if (s->error != 0 || s->size == 0)
            continue;
        if (s->free < least)
            found(f, "%s, %s: %" PRIu64 " MB free", s->what, s->path,
                  s->free / 1000000);
        else if (s->files > 0 && s->free_files < s->files / 100)
            found(f, "%s, %s: %" PRIu64 " inodes free", s->what, s->path,
                  s->free_files);
        else
            continue;
        advise(f, "make room: du -xh -d 2 %s | sort -h",
               mta_quote(k->arena, s->path));
    }
}

/* ---- secrets and keys ---- */

static void
secrets(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->host->n_secrets; i++) {
        const struct secret_fact *s = &k->host->secrets[i];
        const char *path = mta_quote(k->arena, s->file.path);

        if (s->file.error != 0) {
            found(f, "secret of %s: %s: %s", s->account, s->file.path,
                  strerror(s->file.error));
            advise(f,
                   "put it there, or for a refresh token: gmroutectl login "
                   "%s",
                   s->account);
        } else if (s->file.mode != 0600 && s->file.mode != 0400) {
            found(f, "secret of %s: %s has mode %04o, want 0600", s->account,
                  s->file.path, s->file.mode);
            mend(f, "chmod 0600 %s", path);
        } else if (s->has_reader && s->file.uid != 0 &&
                   s->file.uid != s->reader) {
            found(f,
                  "secret of %s: %s belongs to user id %u, and who reads "
                  "it is %u",
                  s->account, s->file.path, (unsigned)s->file.uid,
                  (unsigned)s->reader);
            mend(f, "chown %u %s", (unsigned)s->reader, path);
        }
    }
}

static void
keys(const struct doctor_case *k, struct findings *f)
{
    if (k->host->keys_err == NULL)
        return;
    found(f, "the keys of tags cannot be used: %s", k->host->keys_err);
    for (size_t i = 0; i < k->host->n_keys; i++)
        if ((k->host->keys[i].mode & 0137) != 0)
            mend(f, "chmod 0640 %s",
                 mta_quote(k->arena, k->host->keys[i].path));
    mend(f, "chmod 0750 %s/keys",
         mta_quote(k->arena, k->policy->state.directory));
}

/* A key that has not signed for longer than mail stays in the queue. */
static void
old_keys(const struct doctor_case *k, struct findings *f)
{
    int64_t lifetime_s =
        k->mta != NULL ? mta_seconds(mta_main(k->mta, "maximal_queue_lifetime"))
                       : 5 * 86400;

    for (size_t i = 1; i < k->host->n_keys; i++) {
        /* Since then the next newer one signs. */
        int64_t since_s = k->host->keys[i - 1].changed_s;

        if (k->host->now_s - since_s <= 2 * lifetime_s)
            continue;
        found(f,
              "%s has signed nothing for %" PRId64
              " days, and no mail of its time is in the queue any more",
              k->host->keys[i].path, (k->host->now_s - since_s) / 86400);
        mend(f, "rm %s", mta_quote(k->arena, k->host->keys[i].path));
    }
}

static void
future_keys(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->host->n_keys; i++) {
        if (k->host->keys[i].changed_s <= k->host->now_s + 60)
            continue;
        found(f, "%s has a time in the future", k->host->keys[i].path);
        mend(f, "touch %s", mta_quote(k->arena, k->host->keys[i].path));
    }
}

/* ---- the world outside ---- */

static void
hosts(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->host->n_hosts; i++) {
        const struct host_fact *h = &k->host->hosts[i];

        if (h->err == NULL)
            continue;
        found(f, "the name of %s, %s, is not found: %s", h->what, h->name,
              h->err);
        advise(f,
               "correct the name in %s, or the name servers in "
               "/etc/resolv.conf (getent hosts %s)",
               k->policy->file, h->name);
    }
}

static void
certificates(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->host->n_cas; i++) {
        const struct ca_fact *c = &k->host->cas[i];

        if (c->err == NULL)
            continue;
        found(f, "certificates of authorities for %s: %s: %s", c->what, c->path,
              c->err);
        if (strcmp(c->configured, "system") == 0)
            advise(f, "apt-get install ca-certificates");
        else
            advise(f,
                   "in %s: ca_file: system, or a file with certificates "
                   "in PEM",
                   k->policy->file);
    }
}

static void
skew(const struct doctor_case *k, struct findings *f)
{
    int64_t s = k->host->skew_s;

    if (!k->host->has_skew || (s >= -SKEW_MAX_S && s <= SKEW_MAX_S))
        return;
    found(f, "this host's clock is %" PRId64 " s %s the token endpoint's",
          s < 0 ? -s : s, s > 0 ? "behind" : "ahead of");
    advise(f, "timedatectl set-ntp true");
}

static void
unsynchronised(const struct doctor_case *k, struct findings *f)
{
    if (!k->host->clock_unsynchronised)
        return;
    found(f, "the kernel does not know of a time server that sets this clock");
    advise(f, "timedatectl set-ntp true");
}

static const char *
token_remedy(const struct doctor_case *k, const struct token_fact *t)
{
    switch (t->state) {
    case TOKEN_NEEDS_LOGIN:
        return arena_printf(k->arena, "gmroutectl login %s",
                            mta_quote(k->arena, t->identity));
    case TOKEN_CLIENT_BROKEN:
        return "look at the OAuth client in Google's console, and at "
               "client_id and client_secret_file";
    case TOKEN_NO_MAILBOX:
        return "there is no such mailbox: make it, or keep its sender from "
               "the rule";
    default:
        return arena_printf(k->arena, "gmroutectl verify %s",
                            mta_quote(k->arena, t->identity));
    }
}

static void
token(const struct doctor_case *k, struct findings *f, bool retrying)
{
    for (size_t i = 0; i < k->host->n_tokens; i++) {
        const struct token_fact *t = &k->host->tokens[i];
        const char *remedy = token_remedy(k, t);

        if ((t->state == TOKEN_RETRYING) != retrying)
            continue;
        found(f, "token of %s: %s%s%s", t->identity,
              token_state_name((enum token_state)t->state),
              t->error[0] != '\0' ? ": " : "", t->error);
        advise(f, "%s", remedy != NULL ? remedy : "gmroutectl verify");
    }
}

static void
tokens(const struct doctor_case *k, struct findings *f)
{
    token(k, f, false);
}

static void
tokens_retrying(const struct doctor_case *k, struct findings *f)
{
    token(k, f, true);
}

const struct doctor_check doctor_host_checks[] = {
    {"daemon-down", SEVERITY_ERROR, daemons,
     "without the agent mail for Gmail waits in the queue; without the token "
     "daemon it does so once tokens are too old"},
    {"not-listening", SEVERITY_ERROR, listening,
     "the MTA cannot ask the milter, or give mail to the agent"},
    {"mta-user", SEVERITY_ERROR, mta_user, "the MTA cannot start"},
    {"socket-unreachable", SEVERITY_ERROR, socket_reach,
     "the MTA cannot ask the milter, or give mail to the agent"},
    {"socket-open", SEVERITY_WARNING, socket_open,
     "whoever is on this host can ask the milter for tags, or send to the "
     "agent"},
    {"socket-parent", SEVERITY_ERROR, socket_parent,
     "somebody else could put a socket there and get the mail; Sendmail "
     "refuses such a path"},
    {"socket-link", SEVERITY_ERROR, socket_link,
     "Sendmail refuses a socket that is a symbolic link"},
    {"labels", SEVERITY_ERROR, labels,
     "mail of the accounts with that label stays in the queue"},
    {"state-directory", SEVERITY_ERROR, state,
     "the agent cannot keep its ledger there, and without it sends nothing; "
     "or others could make tags"},
    {"ledger-owner", SEVERITY_ERROR, ledger_owner,
     "the agent cannot write its ledger, and without it sends nothing"},
    {"state-volatile", SEVERITY_ERROR, state_volatile,
     "after a restart of the host nobody knows what was sent, and tags of "
     "mail in the queue are good no more"},
    {"runtime-directory", SEVERITY_ERROR, runtime,
     "the daemons share what they know there"},
    {"runtime-disk", SEVERITY_WARNING, runtime_disk,
     "every count and token is then written to a disk, and outlives a "
     "restart of the host"},
    {"disk-full", SEVERITY_WARNING, space,
     "a ledger that cannot be written stops all sending; a queue that is full "
     "takes no mail"},
    {"secret-file", SEVERITY_ERROR, secrets,
     "the daemon refuses a secret that others could read or that it cannot; "
     "the account does not send"},
    {"tag-keys", SEVERITY_ERROR, keys,
     "milter and agent refuse keys that others could have made; no mail is "
     "routed"},
    {"tag-keys-future", SEVERITY_WARNING, future_keys,
     "the newest key signs: one that is made later would not"},
    {"tag-keys-old", SEVERITY_NOTE, old_keys,
     "who has got hold of an old key can still make tags with it"},
    {"name-unknown", SEVERITY_ERROR, hosts,
     "the daemons cannot connect, and mail for Gmail waits in the queue"},
    {"certificates", SEVERITY_ERROR, certificates,
     "no server's certificate can be verified, and so none is spoken to"},
    {"clock-skew", SEVERITY_WARNING, skew,
     "tokens of service accounts are refused, and quota and logs have wrong "
     "times"},
    {"clock-unsynchronised", SEVERITY_NOTE, unsynchronised,
     "a clock that is left alone drifts; tokens need it within a minute"},
    {"token", SEVERITY_ERROR, tokens,
     "mail of that account waits until a person has done something"},
    {"token-retrying", SEVERITY_WARNING, tokens_retrying,
     "once the token that is still there has ended, mail of that account "
     "waits"},
    {0}};
