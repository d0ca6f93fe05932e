/* milter/token/alerter.c - see alerter.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/alerter.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/base/log.h"
#include "milter/token/alert_letter.h"

enum { TEXT_MAX = 800, LOOK_S = 1, FACTS = 10 };

struct alerter {
    struct alerter_options o;
    pthread_mutex_t lock; /* guards book */
    pthread_cond_t news;
    atomic_bool stopping;
    struct alert_book *book;
    pthread_t thread;
};

/* ---- what is run ---- */

struct facts { /* an environment */
    char text[FACTS][TEXT_MAX + 40];
    char *at[FACTS + 1];
    unsigned n;
};

static void
add(struct facts *f, const char *name, const char *value)
{
    snprintf(f->text[f->n], sizeof f->text[f->n], "%s=%s", name, value);
    f->at[f->n] = f->text[f->n];
    f->at[++f->n] = NULL;
}

static void
run(const struct alerter *a, const struct alerts *to, char *const *argv,
    char *const *env, const char *input)
{
    struct command c = {.argv = argv,
                        .env = env,
                        .input = input,
                        .timeout_ms = to->timeout_ms,
                        .stop = &a->stopping};
    char err[300];

    if (!a->o.run(&c, err, sizeof err))
        log_error("alert: %s", err);
}

static void
mail(const struct alerter *a, const struct policy *p, const struct alert *what,
     const char *host, char *const *env)
{
    char letter[ALERT_LETTER_MAX + 1];
    char *argv[24];
    unsigned n = 0;

    for (; p->alert.sendmail[n] != NULL && n < 18; n++)
        argv[n] = p->alert.sendmail[n];
    argv[n++] = (char *)"-i";
    argv[n++] = (char *)"-f";
    argv[n++] = (char *)"<>";
    argv[n++] = (char *)"--";
    argv[n++] = (char *)p->alert.mail;
    argv[n] = NULL;
    alert_letter(what, host, p->alert.mail, letter);
    run(a, &p->alert, argv, env, letter);
}

static void
tell(const struct alerter *a, const struct policy *p, const struct alert *what)
{
    const char *host = p->hostname != NULL ? p->hostname : "this host";
    char text[TEXT_MAX], input[TEXT_MAX + 2], since[24];
    char remedy[ALERT_REMEDY_MAX + 1];
    struct facts f = {.n = 0};
    struct log_line l = log_line(LOG_LEVEL_INFO);

    alert_text(what, text, sizeof text);
    alert_remedy(what, remedy);
    snprintf(since, sizeof since, "%" PRId64, what->since_s);
    log_kv(&l, "alert", alert_topic_name(what->topic));
    log_kv(&l, "subject", what->subject);
    log_kv(&l, "state", what->state);
    log_end(&l);
    add(&f, "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
        "/bin");
    add(&f, "GMROUTE_ALERT", alert_topic_name(what->topic));
    add(&f, "GMROUTE_SUBJECT", what->subject);
    add(&f, "GMROUTE_STATE", what->state);
    add(&f, "GMROUTE_WHY", what->why);
    add(&f, "GMROUTE_TEXT", text);
    add(&f, "GMROUTE_SINCE", since);
    add(&f, "GMROUTE_REMEDY", remedy);
    add(&f, "GMROUTE_HOST", p->hostname != NULL ? p->hostname : "");
    snprintf(input, sizeof input, "%s\n", text);
    if (p->alert.command != NULL)
        run(a, &p->alert, p->alert.command, f.at, input);
    if (p->alert.mail != NULL)
        mail(a, p, what, host, f.at);
}

/* ---- the thread ---- */

static bool
is_wanted(const struct policy *p)
{
    return p->alert.command != NULL || p->alert.mail != NULL;
}

static void
wait_for_news(struct alerter *a)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until); /* nobody sets this one */
    until.tv_sec += LOOK_S;
    pthread_cond_clockwait(&a->news, &a->lock, CLOCK_MONOTONIC, &until);
}

static void *
talk(void *cookie)
{
    struct alerter *a = cookie;

    pthread_mutex_lock(&a->lock);
    while (!atomic_load(&a->stopping)) {
        struct conf *conf = conf_ref(a->o.conf);
        const struct policy *p = conf->policy;
        struct alert what;

        if (is_wanted(p) && alert_book_next(a->book, clock_boot_ms(a->o.clock),
                                            p->alert.interval_ms, &what)) {
            pthread_mutex_unlock(&a->lock);
            tell(a, p, &what);
            pthread_mutex_lock(&a->lock);
        } else {
            wait_for_news(a);
        }
        conf_unref(conf);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

struct alerter *
alerter_new(const struct alerter_options *o)
{
    struct alerter *a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    a->o = *o;
    a->book = alert_book_new();
    if (a->book == NULL) {
        free(a);
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->news, NULL);
    if (pthread_create(&a->thread, NULL, talk, a) == 0)
        return a;
    pthread_cond_destroy(&a->news);
    pthread_mutex_destroy(&a->lock);
    alert_book_free(a->book);
    free(a);
    return NULL;
}

void
alerter_free(struct alerter *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->stopping, true);
    pthread_cond_signal(&a->news);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->news);
    pthread_mutex_destroy(&a->lock);
    alert_book_free(a->book);
    free(a);
}

void
alerter_note(struct alerter *a, const struct alert *what)
{
    struct alert now = *what;
    bool ok;

    now.since_s = clock_wall_ms(a->o.clock) / 1000;
    pthread_mutex_lock(&a->lock);
    ok = alert_book_note(a->book, &now);
    pthread_cond_signal(&a->news);
    pthread_mutex_unlock(&a->lock);
    if (!ok)
        log_error("alert: out of memory");
}
