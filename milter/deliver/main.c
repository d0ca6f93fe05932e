/* milter/deliver/main.c - gmroute-deliver: start in the order that loses
 * nothing, run, drain.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "milter/base/conf.h"
#include "milter/base/daemon.h"
#include "milter/base/log.h"
#include "milter/base/notify.h"
#include "milter/base/process.h"
#include "milter/deliver/control.h"
#include "milter/deliver/listener.h"
#include "milter/deliver/restore.h"

enum { DRAIN_MS = 30 * 1000, TICK_MS = 1000, SWEEP_MS = 60 * 1000 };
enum { BLOCK_OCTETS = 256 * 1024 };

struct agent {
    const char *file;
    struct conf_holder *conf;
    struct ticket_keys keys;
    struct relay_env env;
    struct status_reader *status;
    struct listener *listener;
    struct control *control;
    char hostname[256];
    uint64_t ticked_ms, swept_ms;
    bool ledger_failed; /* as last logged */
    bool outdated;      /* the configuration could not be loaded again */
};

static void
find_hostname(struct agent *a, const struct policy *p)
{
    const struct addrinfo hints = {.ai_flags = AI_CANONNAME,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    if (p->hostname != NULL) {
        snprintf(a->hostname, sizeof a->hostname, "%s", p->hostname);
        return;
    }
    if (gethostname(a->hostname, sizeof a->hostname - 1) != 0)
        snprintf(a->hostname, sizeof a->hostname, "localhost");
    if (strchr(a->hostname, '.') == NULL &&
        getaddrinfo(a->hostname, NULL, &hints, &list) == 0 &&
        list->ai_canonname != NULL)
        snprintf(a->hostname, sizeof a->hostname, "%s", list->ai_canonname);
    if (list != NULL)
        freeaddrinfo(list);
    if (strchr(a->hostname, '.') == NULL)
        log_warn("this host's name \"%s\" is not a full domain name; Gmail "
                 "may refuse it: set hostname in %s",
                 a->hostname, p->file);
}

static bool
open_book(struct agent *a, const struct policy *p)
{
    uint64_t boot_id[2];
    char err[512];

    if (ledger_open(&a->env.ledger, p->state.directory, &clock_real, err,
                    sizeof err) != LEDGER_OK) {
        log_error("ledger: %s", err);
        return false;
    }
    process_boot_id(boot_id);
    if (!restore_book(a->env.ledger, p, boot_id)) {
        ledger_trouble(a->env.ledger, err, sizeof err);
        log_error("ledger: %s", err);
        return false;
    }
    return true;
}

static bool
start(struct agent *a, const struct policy *p)
{
    struct quota_start quota_start;
    char err[512];

    a->env.conf = a->conf;
    a->env.clock = &clock_real;
    a->env.keys = &a->keys;
    a->env.hostname = a->hostname;
    find_hostname(a, p);
    if (!conf_ticket_keys_make(p->state.directory, err, sizeof err) ||
        !conf_ticket_keys(p->state.directory, &a->keys, err, sizeof err)) {
        log_error("ticket keys: %s", err);
        return false;
    }
    if (!open_book(a, p))
        return false;
    quota_start = ledger_quota_start(a->env.ledger);
    if (quota_make(&a->env.quota, p->state.runtime, p, &clock_real,
                   &quota_start, err, sizeof err) != STATE_OK ||
        hints_open(&a->env.hints, p->state.runtime, p->state.accounts, err,
                   sizeof err) != STATE_OK) {
        log_error("shared memory: %s", err);
        return false;
    }
    a->status = status_reader_new(p->state.runtime, true);
    a->env.attempts = attempts_new(a->env.quota);
    a->env.suspects = suspects_new();
    if (a->status == NULL || a->env.attempts == NULL || a->env.suspects == NULL)
        return false;
    if (!restore_memory(p, a->env.ledger, a->env.quota, a->env.attempts, err,
                        sizeof err)) {
        log_error("ledger: what was spent cannot be restored: %s", err);
        return false;
    }
    a->env.pool = pool_new(
        &(struct pool_options){.quota = a->env.quota,
                               .status = a->status,
                               .clock = &clock_real,
                               .hostname = a->hostname,
                               .sessions_max = p->deliver.sessions_max});
    if (a->env.pool == NULL)
        return false;
    a->control = control_open(p->state.runtime, &a->env, err, sizeof err);
    if (a->control == NULL) {
        log_error("%s", err);
        return false;
    }
    a->listener = listener_open(p->deliver.listen, p->deliver.connections_max,
                                &a->env, err, sizeof err);
    if (a->listener == NULL)
        log_error("%s", err);
    return a->listener != NULL;
}

static void
stop(struct agent *a)
{
    control_close(a->control);
    if (a->listener != NULL) {
        listener_stop(a->listener);
        /* Who waits for a session is answered now; who has one finishes. */
        pool_drain(a->env.pool, DRAIN_MS);
        listener_close(a->listener, DRAIN_MS);
    }
    pool_free(a->env.pool);
    attempts_free(a->env.attempts);
    suspects_free(a->env.suspects);
    status_reader_free(a->status);
    hints_free(a->env.hints);
    ledger_close(a->env.ledger);
    quota_free(a->env.quota);
    explicit_bzero(&a->keys, sizeof a->keys);
}

/* What `systemctl status` shows: the worst that there is to say. */
static void
tell(struct agent *a)
{
    char trouble[512];
    struct conf *conf;

    if (a->ledger_failed) {
        ledger_trouble(a->env.ledger, trouble, sizeof trouble);
        notify_ready("nothing is sent: the ledger cannot be written: %s",
                     trouble);
    } else if (a->outdated) {
        notify_ready(DAEMON_OUTDATED);
    } else {
        conf = conf_ref(a->conf);
        notify_ready("%zu accounts", conf->policy->n_accounts);
        conf_unref(conf);
    }
}

/* A broken file, or one that this process cannot take over, leaves everything
 * as it is. */
static void
reload(struct agent *a)
{
    struct policy *p;
    size_t n_accounts;
    char err[512] = "";

    notify_reloading();
    p = daemon_load(a->file);
    if (p != NULL &&
        quota_reload(a->env.quota, p, err, sizeof err) != STATE_OK) {
        log_error("%s", err);
        policy_free(p);
        p = NULL;
    }
    n_accounts = p != NULL ? p->n_accounts : 0;
    a->outdated = p == NULL || !conf_publish(a->conf, p);
    if (!a->outdated) {
        /* Else what was asked for last may not be in the book yet. */
        if (ledger_ok(a->env.ledger))
            restore_diverts(p, a->env.ledger, a->env.quota);
        log_info("configuration loaded again: %zu accounts", n_accounts);
    } else {
        log_error("configuration not loaded%s, the old one stays in force",
                  p != NULL ? ": out of memory" : "");
    }
    tell(a);
}

static void
watch_ledger(struct agent *a)
{
    bool failed = !ledger_ok(a->env.ledger);
    char trouble[512];

    if (failed == a->ledger_failed)
        return;
    a->ledger_failed = failed;
    ledger_trouble(a->env.ledger, trouble, sizeof trouble);
    if (failed)
        log_error("the ledger cannot be written, so nothing is sent: %s",
                  trouble);
    else
        log_info("the ledger can be written again");
    tell(a);
}

static void
tick(struct agent *a)
{
    uint64_t now_ms = quota_now_ms(a->env.quota);

    if (now_ms - a->ticked_ms < TICK_MS)
        return; /* woken by a connection */
    a->ticked_ms = now_ms;
    watch_ledger(a);
    ledger_clock(a->env.ledger, now_ms);
    pool_tick(a->env.pool);
    quota_beat(a->env.quota);
    quota_ledger_trouble(a->env.quota, !ledger_ok(a->env.ledger));
    if (now_ms - a->swept_ms >= SWEEP_MS) {
        attempts_sweep(a->env.attempts, now_ms);
        quota_sweep(a->env.quota);
        a->swept_ms = now_ms;
    }
}

static void
run(struct agent *a, int signals)
{
    tell(a);
    log_info("ready: gmroute-deliver " GMROUTE_VERSION);
    for (;;) {
        struct pollfd fd[2] = {
            {.fd = signals, .events = POLLIN},
            {.fd = listener_fd(a->listener), .events = POLLIN}};
        enum process_event e;

        if (poll(fd, 2, TICK_MS) < 0 && errno != EINTR) {
            log_error("poll: %s", strerror(errno));
            return;
        }
        if (fd[1].revents != 0)
            listener_accept(a->listener);
        while ((e = process_event(signals)) != PROCESS_NONE) {
            if (e == PROCESS_STOP)
                return;
            reload(a);
        }
        tick(a);
        notify_alive();
    }
}

int
main(int argc, char **argv)
{
    struct daemon_options options;
    struct agent a = {0};
    struct policy *p;
    int signals, status;

    if (!daemon_options(argc, argv, "gmroute-deliver", &options, &status))
        return status;
    status = 1;
    a.file = options.file;
    signals = process_signals();
    if (signals < 0) {
        log_error("cannot take signals: %s", strerror(errno));
        return 1;
    }
    process_no_core();
    process_raise_files();
    /* A large block goes back to the system at once, always: left to itself
     * malloc(3) learns to keep it, in as many heaps as there are cores.  What
     * a small message needs stays. */
    mallopt(M_MMAP_THRESHOLD, BLOCK_OCTETS);
    mallopt(M_TRIM_THRESHOLD, BLOCK_OCTETS);
    p = daemon_load(a.file);
    if (p == NULL)
        return 1;
    a.conf = conf_holder_new(p);
    if (a.conf == NULL) {
        log_error("out of memory");
        return 1;
    }
    if (start(&a, p)) {
        run(&a, signals);
        notify_stopping();
        status = 0;
    }
    stop(&a);
    conf_holder_free(a.conf);
    if (status == 0)
        log_info("stopped");
    return status;
}
