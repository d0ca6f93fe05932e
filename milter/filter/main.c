/* milter/filter/main.c - gmroute-milter: options, configuration, memory, run.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "milter/base/conf.h"
#include "milter/base/daemon.h"
#include "milter/base/log.h"
#include "milter/base/notify.h"
#include "milter/base/process.h"
#include "milter/filter/callbacks.h"
#include "milter/filter/listener.h"
#include "milter/filter/pulse.h"
#include "policy/ticket.h"

/* libmilter's own thread waits for SIGHUP, SIGTERM and SIGINT with sigwait(3)
 * and stops the filter on each.  The kernel gives a signal to the main thread
 * first, as long as it has it unblocked: so this thread takes them in
 * handlers, and libmilter runs in another one. */
static int signal_fd;

enum { PULSE_MS = 2000 };

static void
on_signal(int number)
{
    uint64_t one = number == SIGHUP ? 1 : 1u << 16;
    int saved = errno;

    if (write(signal_fd, &one, sizeof one) < 0)
        errno = saved; /* the counter is full: an event is pending anyway */
    errno = saved;
}

static bool
take_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    signal_fd = eventfd(0, EFD_CLOEXEC);
    if (signal_fd < 0)
        return false;
    sigemptyset(&act.sa_mask);
    sigaction(SIGHUP, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    return true;
}

struct filter {
    const char *file;
    struct admit_turns turns;
    struct session_env env;
    struct ticket_keys keys;
    struct conf_holder *conf;
};

/* A broken file leaves everything as it is. */
static void
reload(struct filter *f)
{
    struct policy *p;
    size_t n_rules, n_accounts;

    notify_reloading();
    p = daemon_load(f->file);
    n_rules = p != NULL ? p->n_rules : 0;
    n_accounts = p != NULL ? p->n_accounts : 0;
    if (p != NULL && conf_publish(f->conf, p)) {
        log_info("configuration loaded again: %zu rules, %zu accounts", n_rules,
                 n_accounts);
        notify_ready("%zu rules, %zu accounts", n_rules, n_accounts);
    } else {
        log_error("configuration not loaded%s, the old one stays in force",
                  p != NULL ? ": out of memory" : "");
        notify_ready(DAEMON_OUTDATED);
    }
}

static void *
serve(void *cookie)
{
    bool *ret_ok = cookie;
    uint64_t stop = 1u << 16;

    *ret_ok = callbacks_run();
    /* Ends the main thread's wait, whoever stopped us. */
    if (write(signal_fd, &stop, sizeof stop) < 0)
        log_error("cannot end: %s", strerror(errno));
    return NULL;
}

/* Waits for a signal's events.  Meanwhile, where somebody watches us, sees
 * whether libmilter serves, with a look to spare in each of its intervals. */
static uint64_t
wait_for_events(int listener)
{
    struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
    uint64_t events = 0, watch_ms = notify_watch_ms();

    for (;;) {
        int n = poll(&fd, 1, watch_ms > 0 ? (int)(watch_ms / 2) : -1);

        if (n > 0)
            break;
        if (n == 0 && pulse_beats(listener, PULSE_MS))
            notify_alive();
    }
    if (read(signal_fd, &events, sizeof events) != sizeof events)
        return 0;
    return events;
}

static int
run(struct filter *f)
{
    struct conf *first = conf_ref(f->conf);
    int listener = listener_find();
    pthread_t server;
    sigset_t all, old;
    bool ok = false, stopping = false;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    if (pthread_create(&server, NULL, serve, &ok) != 0) {
        log_error("cannot start a thread");
        return 1;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    notify_ready("%zu rules, %zu accounts", first->policy->n_rules,
                 first->policy->n_accounts);
    conf_unref(first);
    log_info("ready: gmroute-milter " GMROUTE_VERSION);
    while (!stopping) {
        uint64_t events = wait_for_events(listener);

        if (events >= 1u << 16)
            stopping = true;
        else if (events > 0)
            reload(f);
    }
    notify_stopping();
    callbacks_stop();
    pthread_join(server, NULL);
    log_info("stopped");
    return ok ? 0 : 1;
}

static bool
start(struct filter *f, const struct policy *p)
{
    char err[512];
    uint64_t number;

    if (!conf_ticket_keys_make(p->state.directory, err, sizeof err) ||
        !conf_ticket_keys(p->state.directory, &f->keys, err, sizeof err)) {
        log_error("ticket keys: %s", err);
        return false;
    }
    if (hints_open(&f->env.admit.hints, p->state.runtime, p->state.accounts,
                   err, sizeof err) != STATE_OK) {
        log_error("shared memory: %s", err);
        return false;
    }
    if (getrandom(&number, sizeof number, 0) != sizeof number) {
        log_error("no random numbers: %s", strerror(errno));
        return false;
    }
    atomic_store(&f->env.next_number, number);
    f->env.keys = &f->keys;
    f->env.admit.clock = &clock_real;
    f->env.admit.turns = &f->turns;
    f->env.admit.quota = quota_reader_new(p->state.runtime, &clock_real);
    f->env.admit.status = status_reader_new(p->state.runtime, false);
    if (f->env.admit.quota == NULL || f->env.admit.status == NULL) {
        log_error("out of memory");
        return false;
    }
    if (!callbacks_open(&f->env, f->conf, p->milter.listen, err, sizeof err)) {
        log_error("%s", err);
        return false;
    }
    return true;
}

int
main(int argc, char **argv)
{
    static struct filter f;
    struct daemon_options options;
    struct policy *p;
    int status;

    if (!daemon_options(argc, argv, "gmroute-milter", &options, &status))
        return status;
    f.file = options.file;
    if (!take_signals()) {
        log_error("cannot take signals: %s", strerror(errno));
        return 1;
    }
    process_raise_files();
    p = daemon_load(f.file);
    if (p == NULL)
        return 1;
    f.conf = conf_holder_new(p);
    if (f.conf == NULL) {
        log_error("out of memory");
        return 1;
    }
    /* libmilter's workers may still be inside a callback: nothing they use is
     * freed, and no exit handler of a library runs beside them. */
    if (start(&f, p))
        _exit(run(&f));
    quota_reader_free(f.env.admit.quota);
    status_reader_free(f.env.admit.status);
    hints_free(f.env.admit.hints);
    conf_holder_free(f.conf);
    explicit_bzero(&f.keys, sizeof f.keys);
    return 1;
}
