/* milter/token/alert.c - see alert.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/alert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct subject {
    struct subject *next;
    struct alert newest;
    char told[ALERT_STATE_MAX + 1]; /* the state that was last told; at first
                                     * "ok", which is what all believe */
    uint64_t told_ms;               /* 0 = never */
};

struct alert_book { /* a list: few are bad at a time */
    struct subject *first, **end;
};

const char *
alert_topic_name(enum alert_topic t)
{
    static const char *const names[ALERT_TOPICS] = {"token", "client", "quota",
                                                    "ending", "unused"};

    return t < ALERT_TOPICS ? names[t] : "?";
}

static void
put(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text);
}

struct alert
alert_of(enum alert_topic topic, const char *subject, const char *state,
         const char *why)
{
    struct alert a = {.topic = topic};

    put(a.subject, sizeof a.subject, subject);
    put(a.state, sizeof a.state, state);
    put(a.why, sizeof a.why, why);
    return a;
}

bool
alert_is_ok(const struct alert *a)
{
    return strcmp(a->state, "ok") == 0;
}

void
alert_text(const struct alert *a, char *ret, size_t size)
{
    const char *what = a->topic == ALERT_CLIENT ? "" : "account ";
    const char *of[ALERT_TOPICS] = {
        [ALERT_QUOTA] = "quota: ",
        [ALERT_ENDING] = "refresh token: ",
        [ALERT_UNUSED] = "refresh token: ",
    };
    const char *about = of[a->topic] != NULL ? of[a->topic] : "";

    if (alert_is_ok(a))
        snprintf(ret, size, "%s%s: %sall is well again", what, a->subject,
                 about);
    else
        snprintf(ret, size, "%s%s: %s%s: %s", what, a->subject, about, a->state,
                 a->why);
}

struct alert_book *
alert_book_new(void)
{
    struct alert_book *b = calloc(1, sizeof *b);

    if (b != NULL)
        b->end = &b->first;
    return b;
}

void
alert_book_free(struct alert_book *b)
{
    while (b != NULL && b->first != NULL) {
        struct subject *s = b->first;

        b->first = s->next;
        free(s);
    }
    free(b);
}

static struct subject *
find(const struct alert_book *b, const struct alert *a)
{
    struct subject *s = b->first;

    while (s != NULL && (s->newest.topic != a->topic ||
                         strcmp(s->newest.subject, a->subject) != 0))
        s = s->next;
    return s;
}

bool
alert_book_note(struct alert_book *b, const struct alert *a)
{
    struct subject *s = find(b, a);
    int64_t since_s;

    if (s == NULL && alert_is_ok(a))
        return true;
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        if (s == NULL)
            return false;
        put(s->told, sizeof s->told, "ok");
        *b->end = s;
        b->end = &s->next;
    }
    since_s =
        strcmp(s->newest.state, a->state) == 0 ? s->newest.since_s : a->since_s;
    s->newest = *a;
    s->newest.since_s = since_s;
    return true;
}

/* Is it time, had there been something? */
static bool
is_time(const struct subject *s, uint64_t now_ms, uint64_t interval_ms)
{
    return s->told_ms == 0 || now_ms - s->told_ms >= interval_ms;
}

static void
drop(struct alert_book *b, struct subject **at)
{
    struct subject *s = *at;

    *at = s->next;
    if (b->end == &s->next)
        b->end = at;
    free(s);
}

bool
alert_book_next(struct alert_book *b, uint64_t now_ms, uint64_t interval_ms,
                struct alert *ret)
{
    for (struct subject **at = &b->first; *at != NULL;) {
        struct subject *s = *at;

        if (!is_time(s, now_ms, interval_ms)) {
            at = &s->next;
        } else if (strcmp(s->told, s->newest.state) != 0) {
            put(s->told, sizeof s->told, s->newest.state);
            s->told_ms = now_ms > 0 ? now_ms : 1;
            *ret = s->newest;
            return true;
        } else if (alert_is_ok(&s->newest)) {
            drop(b, at);
        } else {
            at = &s->next;
        }
    }
    return false;
}
