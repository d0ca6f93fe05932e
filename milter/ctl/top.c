/* milter/ctl/top.c - gmroutectl top: what is being sent, as it happens.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A sample is the difference of two readings of the counters.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "milter/ctl/look.h"

static const char synopsis[] =
    "[--interval SECONDS] [--limit N] [--once] [--json]";

struct reading {
    struct account_rows rows;
    uint64_t at_ms; /* CLOCK_BOOTTIME */
};

struct line {
    const struct account_row *now;
    uint64_t sent, put_off; /* in the interval */
};

struct sample {
    struct line *line; /* most happening first */
    size_t n;
    uint64_t interval_ms, sent, put_off, waiting, open, busy;
};

struct top {
    struct look look;
    double interval_s;
    uint64_t limit;
    bool once, json;
};

static volatile sig_atomic_t ended, resized;

/* ---- a sample ---- */

static enum state_result
read_all(struct top *t, struct reading *ret)
{
    t->look.now_ms = clock_wall_ms(&clock_real);
    ret->at_ms = clock_boot_ms(&clock_real);
    return look_accounts(&t->look, &ret->rows);
}

/* A counter that went back: the agent has started anew, at 0. */
static uint64_t
more(uint64_t before, uint64_t now)
{
    return now >= before ? now - before : now;
}

static int
by_activity(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    const struct account_row *p = x->now, *q = y->now;

    if (x->sent != y->sent)
        return x->sent < y->sent ? 1 : -1;
    if (p->sessions_busy != q->sessions_busy)
        return p->sessions_busy < q->sessions_busy ? 1 : -1;
    if (x->put_off != y->put_off)
        return x->put_off < y->put_off ? 1 : -1;
    if (p->waiting_messages != q->waiting_messages)
        return p->waiting_messages < q->waiting_messages ? 1 : -1;
    return strcmp(p->identity, q->identity);
}

/* Borrows from `now`; the caller frees the lines.  False = out of memory. */
static bool
compare(const struct reading *before, const struct reading *now,
        struct sample *ret)
{
    size_t k = 0;

    *ret = (struct sample){.n = now->rows.n,
                           .interval_ms = now->at_ms - before->at_ms};
    ret->line = calloc(ret->n + 1, sizeof *ret->line);
    if (ret->line == NULL)
        return false;
    for (size_t i = 0; i < ret->n; i++) {
        const struct account_row *r = &now->rows.row[i];
        struct account_row old = {0}; /* an account that was not there */
        struct line *l = &ret->line[i];

        while (k < before->rows.n &&
               strcmp(before->rows.row[k].identity, r->identity) < 0)
            k++;
        if (k < before->rows.n && before->rows.row[k].id == r->id)
            old = before->rows.row[k];
        l->now = r;
        l->sent = more(old.sent, r->sent);
        l->put_off =
            more(old.refused, r->refused) + more(old.deferred, r->deferred);
        ret->sent += l->sent;
        ret->put_off += l->put_off;
        ret->waiting += r->waiting_messages;
        ret->open += r->sessions_open;
        ret->busy += r->sessions_busy;
    }
    qsort(ret->line, ret->n, sizeof *ret->line, by_activity);
    return true;
}

static double
per_minute(const struct sample *s, uint64_t n)
{
    return s->interval_ms > 0 ? (double)n * 60000 / (double)s->interval_ms : 0;
}

/* ---- showing it ---- */

static void
print_json(const struct top *t, const struct sample *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n && i < t->limit; i++) {
        const struct line *l = &s->line[i];
        const struct account_row *r = l->now;
        json_t *j = json_pack(
            "{s:s, s:s, s:I, s:f, s:I, s:i, s:i, s:i, s:o, s:b}", "account",
            r->identity, "state", account_state_name(r->state), "sent",
            (json_int_t)l->sent, "sent_per_minute", per_minute(s, l->sent),
            "put_off", (json_int_t)l->put_off, "sessions_open",
            (int)r->sessions_open, "sessions_busy", (int)r->sessions_busy,
            "waiting_messages", (int)r->waiting_messages, "used_percent",
            r->has_window ? json_integer(r->percent) : json_null(), "full",
            (int)r->is_full);

        look_json_time(&t->look, j, "room_returns", r->room_at_ms);
        json_array_append_new(list, j);
    }
    ctl_print_json(
        json_pack("{s:f, s:I, s:f, s:I, s:I, s:I, s:I, s:o}", "interval_s",
                  (double)s->interval_ms / 1000, "sent", (json_int_t)s->sent,
                  "sent_per_minute", per_minute(s, s->sent), "put_off",
                  (json_int_t)s->put_off, "waiting_messages",
                  (json_int_t)s->waiting, "sessions_open", (json_int_t)s->open,
                  "sessions_busy", (json_int_t)s->busy, "accounts", list));
}

static void
cells_of(const struct top *t, const struct sample *s, const struct line *l,
         struct ctl_table *table)
{
    const struct account_row *r = l->now;
    char room[FORMAT_MAX], when[2 * FORMAT_MAX];

    ctl_table_cell(table, "%s", r->identity);
    ctl_table_cell(table, "%s",
                   r->state == ACCOUNT_OK && r->is_full
                       ? "full"
                       : account_state_name(r->state));
    ctl_table_cell(table, "%.1f", per_minute(s, l->sent) / 60);
    ctl_table_cell(table, "%.0f", per_minute(s, l->sent));
    ctl_table_cell(table, "%" PRIu64, l->put_off);
    ctl_table_cell(table, "%u/%u", r->sessions_busy, r->sessions_open);
    ctl_table_cell(table, "%u", r->waiting_messages);
    if (!r->has_window) {
        ctl_table_cell(table, "-");
        ctl_table_cell(table, "%s", "");
        return;
    }
    ctl_units(r->dimension, r->used < r->limit ? r->limit - r->used : 0, room,
              sizeof room);
    ctl_table_cell(table, "%u%%", r->percent);
    if (r->room_at_ms > 0) {
        look_when(&t->look, r->room_at_ms, when, sizeof when);
        ctl_table_cell(table, "returns %s", when);
    } else {
        ctl_table_cell(table, "%s %s", room, dimension_name(r->dimension));
    }
}

/* At most so many lines (0 = all) and columns. */
static void
print_text(const struct top *t, const struct sample *s, unsigned lines,
           unsigned width, FILE *to)
{
    static const char *const titles[] = {
        "ACCOUNT",    "STATE",    ">PER S", ">PER MIN", ">PUT OFF",
        ">BUSY/OPEN", ">WAITING", ">USED",  "ROOM",     NULL};
    enum { ABOVE = 3 };
    size_t max = lines > ABOVE ? lines - ABOVE : lines > 0 ? 1 : SIZE_MAX;
    struct ctl_table *table = ctl_table_new(titles);
    char now[FORMAT_MAX];

    ctl_time(t->look.now_ms / 1000, now, sizeof now);
    fprintf(to,
            "%s  %.0f sent a minute; %" PRIu64 " of %" PRIu64
            " sessions busy; %" PRIu64 " messages wait\n",
            now, per_minute(s, s->sent), s->busy, s->open, s->waiting);
    for (size_t i = 0; table != NULL && i < s->n && i < t->limit && i < max;
         i++)
        cells_of(t, s, &s->line[i], table);
    if (table == NULL || !ctl_table_print(table, to, width))
        fputs("gmroutectl: out of memory\n", stderr);
}

/* Draws over the last screen in one write, so that nothing flickers. */
static void
redraw(const struct top *t, const struct sample *s)
{
    struct winsize w = {.ws_row = 24, .ws_col = 80};
    char *text = NULL;
    size_t size = 0;
    FILE *out;

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
    out = open_memstream(&text, &size);
    if (out == NULL)
        return;
    print_text(t, s, w.ws_row, w.ws_col, out);
    fclose(out);
    fputs("\033[H", stdout);
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n') /* what the last screen had further right */
            fputs(i + 1 < size ? "\033[K\r\n" : "\033[K", stdout);
        else
            putchar(text[i]);
    fputs("\033[J", stdout);
    fflush(stdout);
    free(text);
}

/* ---- the loop ---- */

static void
on_signal(int signal)
{
    if (signal == SIGWINCH)
        resized = 1;
    else
        ended = 1;
}

static void
catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
    struct sigaction a = {.sa_handler = on_signal};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &a, NULL);
}

/* Waits until `until_ms` (CLOCK_BOOTTIME), or a signal. */
static void
wait_until(uint64_t until_ms)
{
    struct timespec t = {(time_t)(until_ms / 1000),
                         (long)(until_ms % 1000) * 1000000};

    while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL) == EINTR)
        if (ended || resized)
            return;
}

static int
one_sample(struct top *t)
{
    struct reading before = {0}, now = {0};
    struct sample s = {0};
    enum state_result r = read_all(t, &before);
    int status = CTL_USAGE;

    if (r == STATE_OK) {
        wait_until(before.at_ms + (uint64_t)(t->interval_s * 1000));
        r = read_all(t, &now);
    }
    if (r != STATE_OK) {
        look_no_quota(&t->look, r);
    } else if (compare(&before, &now, &s)) {
        if (t->json)
            print_json(t, &s);
        else
            print_text(t, &s, 0, look_terminal_width(), stdout);
        status = CTL_GOOD;
    }
    free(s.line);
    look_accounts_free(&before.rows);
    look_accounts_free(&now.rows);
    return status;
}

static int
live(struct top *t)
{
    struct reading before = {0}, now = {0};
    enum state_result r = read_all(t, &before);
    struct sample s;

    if (r != STATE_OK)
        return look_no_quota(&t->look, r);
    catch_signals();
    fputs("\033[?1049h\033[?25l\033[2J", stdout); /* a screen of its own */
    while (!ended) {
        r = read_all(t, &now);
        if (r == STATE_OK && compare(&before, &now, &s)) {
            redraw(t, &s);
            free(s.line);
        } else if (r != STATE_OK) {
            printf("\033[Hquota memory: %s\033[K\r\n\033[J",
                   state_result_text(r));
            fflush(stdout);
        }
        wait_until(now.at_ms + (uint64_t)(t->interval_s * 1000));
        if (resized) { /* the same interval again, on the new screen */
            resized = 0;
            look_accounts_free(&now.rows);
        } else {
            look_accounts_free(&before.rows);
            before = now;
        }
    }
    look_accounts_free(&before.rows);
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    return CTL_GOOD;
}

static const char *
take_options(struct top *t, int argc, char **argv)
{
    static const struct option options[] = {
        {"interval", required_argument, NULL, 'i'},
        {"limit", required_argument, NULL, 'l'},
        {"once", no_argument, NULL, 'o'},
        {0},
    };
    char *end;
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'i':
            t->interval_s = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(t->interval_s >= 0.1) ||
                !(t->interval_s <= 3600))
                return "--interval: want seconds, 0.1 to 3600";
            break;
        case 'l':
            if (!ctl_number(optarg, 1, UINT32_MAX, &t->limit))
                return "--limit: want a number of accounts";
            break;
        case 'o':
            t->once = true;
            break;
        default:
            return "unknown option";
        }
    if (optind < argc)
        return "unknown word";
    return t->json || t->once || isatty(STDOUT_FILENO)
               ? NULL
               : "standard output is no terminal: give --once or --json for "
                 "one sample";
}

int
ctl_top(struct ctl *c, int argc, char **argv)
{
    struct top t = {.interval_s = 1, .limit = UINT64_MAX, .json = c->json};
    const char *bad = take_options(&t, argc, argv);
    int status = CTL_USAGE;

    if (bad != NULL)
        return ctl_usage("top", synopsis, "%s", bad);
    if (look_open(&t.look, c))
        status = t.json || t.once ? one_sample(&t) : live(&t);
    look_close(&t.look);
    return status;
}
