/* milter/token/main.c - gmroute-token: one loop, many accounts.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "milter/base/conf.h"
#include "milter/base/daemon.h"
#include "milter/base/log.h"
#include "milter/base/notify.h"
#include "milter/base/process.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/token/alerter.h"
#include "milter/token/quota_watch.h"
#include "milter/token/refresher.h"
#include "milter/oauth/wipe.h"

enum { WORKERS = 8, WAIT_MS = 250, QUOTA_LOOK_MS = 60 * 1000 };

struct tower {
    const char *file;
    struct conf_holder *conf;
    struct token_book *book;
    struct refresher *refresher;
    struct quota_reader *quota; /* wishes of the agent */
    struct hints *hints;        /* wishes of the milter; NULL = not there yet */
    struct alerter *alerter;
    uint64_t
        quota_look_ms; /* the next look for accounts that are nearly full */
};

static void
on_quota_want(void *cookie, uint64_t id, const char *identity,
              uint64_t refused_serial)
{
    struct tower *t = cookie;

    (void)id;
    refresher_want(t->refresher, identity, refused_serial);
}

static void
on_hint_want(void *cookie, uint64_t id, const char *identity)
{
    struct tower *t = cookie;

    (void)id;
    refresher_want(t->refresher, identity, 0);
}

static void
on_alert(void *cookie, const struct alert *what)
{
    struct tower *t = cookie;

    alerter_note(t->alerter, what);
}

static bool
on_quota(void *cookie, const struct quota_view *v)
{
    struct tower *t = cookie;
    struct conf *conf = conf_ref(t->conf);
    struct alert what = quota_watch(v, conf->policy->alert.quota_percent);

    conf_unref(conf);
    alerter_note(t->alerter, &what);
    return true;
}

static void
look_at_quota(struct tower *t)
{
    uint64_t now_ms = clock_boot_ms(&clock_real);
    struct conf *conf;

    if (now_ms < t->quota_look_ms)
        return;
    t->quota_look_ms = now_ms + QUOTA_LOOK_MS;
    conf = conf_ref(t->conf);
    if (conf->policy->alert.quota_percent != 0)
        quota_each(t->quota, on_quota, t);
    conf_unref(conf);
}

static void
reload(struct tower *t)
{
    struct policy *p;
    size_t n_accounts;

    notify_reloading();
    p = daemon_load(t->file);
    n_accounts = p != NULL ? p->n_accounts : 0;
    if (p != NULL && conf_publish(t->conf, p)) {
        log_info("configuration loaded again: %zu accounts", n_accounts);
        refresher_reload(t->refresher);
        notify_ready("%zu accounts", n_accounts);
    } else {
        log_error("configuration not loaded%s, the old one stays in force",
                  p != NULL ? ": out of memory" : "");
        notify_ready(DAEMON_OUTDATED);
    }
}

/* Waits for wishes, at most WAIT_MS. */
static void
listen_for_wishes(struct tower *t, const char *runtime)
{
    static const struct timespec pause = {.tv_nsec = WAIT_MS * 1000000L};
    char err[256];

    if (quota_wants(t->quota, WAIT_MS, on_quota_want, t) != STATE_OK)
        nanosleep(&pause, NULL); /* the agent has not started yet */
    if (t->hints == NULL &&
        hints_open_reader(&t->hints, runtime, err, sizeof err) != STATE_OK)
        t->hints = NULL;
    if (t->hints != NULL)
        hints_wants(t->hints, on_hint_want, t);
}

static void
run(struct tower *t, int signals)
{
    struct conf *first = conf_ref(t->conf);

    notify_ready("%zu accounts", first->policy->n_accounts);
    log_info("ready: gmroute-token " GMROUTE_VERSION);
    for (;;) {
        enum process_event e;

        while ((e = process_event(signals)) != PROCESS_NONE) {
            if (e == PROCESS_STOP) {
                conf_unref(first);
                return;
            }
            reload(t);
        }
        token_book_beat(t->book);
        refresher_tick(t->refresher);
        look_at_quota(t);
        notify_alive();
        /* Where the memory lies cannot change while we run. */
        listen_for_wishes(t, first->policy->state.runtime);
    }
}

static bool
start(struct tower *t, const struct policy *p)
{
    char err[512];

    if (token_book_make(&t->book, p->state.runtime, p->state.accounts, err,
                        sizeof err) != STATE_OK) {
        log_error("shared memory: %s", err);
        return false;
    }
    t->quota = quota_reader_new(p->state.runtime, &clock_real);
    t->alerter = alerter_new(&(struct alerter_options){
        .conf = t->conf, .clock = &clock_real, .run = command_run});
    if (t->alerter == NULL) {
        log_error("out of memory");
        return false;
    }
    t->refresher = refresher_new(&(struct refresher_options){
        .conf = t->conf,
        .book = t->book,
        .clock = &clock_real,
        .post = https_post,
        .note = on_alert,
        .note_cookie = t,
        .slots = p->state.accounts,
        .workers = WORKERS,
    });
    if (t->quota == NULL || t->refresher == NULL) {
        log_error("out of memory");
        return false;
    }
    refresher_reload(t->refresher);
    return true;
}

int
main(int argc, char **argv)
{
    struct daemon_options options;
    struct tower t = {0};
    struct policy *p;
    int signals, status;
    bool wipe_first = wipe_start();

    if (!daemon_options(argc, argv, "gmroute-token", &options, &status))
        return status;
    status = 1;
    t.file = options.file;
    signals = process_signals();
    if (signals < 0) {
        log_error("cannot take signals: %s", strerror(errno));
        return 1;
    }
    process_no_core();
    if (!wipe_first) {
        log_error("OpenSSL would not wipe what it frees");
        return 1;
    }
    if (!https_start()) {
        log_error("libcurl cannot be started");
        return 1;
    }
    p = daemon_load(t.file);
    if (p == NULL)
        return 1;
    t.conf = conf_holder_new(p);
    if (t.conf == NULL) {
        log_error("out of memory");
        return 1;
    }
    if (start(&t, p)) {
        run(&t, signals);
        notify_stopping();
        status = 0;
    }
    refresher_free(t.refresher);
    https_stop();
    alerter_free(t.alerter);
    quota_reader_free(t.quota);
    hints_free(t.hints);
    token_book_free(t.book);
    conf_holder_free(t.conf);
    if (status == 0)
        log_info("stopped");
    return status;
}
