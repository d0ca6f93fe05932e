/* tests/race/pattern.c - see pattern.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/race/pattern.h"

#include <inttypes.h>

#include "policy/window.h"
#include "tests/race/race.h"

static const struct limit limits[] = {
    {DIM_MESSAGES, 1000000, DAY_MS},
    {DIM_RECIPIENTS, 3000000, DAY_MS},
};

void
pattern_init(struct pattern *p, const char *directory)
{
    memset(p, 0, sizeof *p);
    snprintf(p->directory, sizeof p->directory, "%s", directory);
    fixture_policy(&p->fixture, limits, 2);
    p->sales = fixture_mailbox(&p->fixture.account[0], "sales@example.com");
    p->news = fixture_mailbox(&p->fixture.account[1], "news@example.com");
}

/* ---- writing ---- */

void
pattern_open_agent(struct pattern *p)
{
    char err[300] = "";

    RACE_CHECK(quota_make(&p->quota, p->directory, &p->fixture.policy,
                          &clock_real, 0, err, sizeof err) == STATE_OK,
               "%s", err);
}

void
pattern_open_tower(struct pattern *p)
{
    char err[300] = "";

    RACE_CHECK(token_book_make(&p->book, p->directory, 50, err, sizeof err) ==
                   STATE_OK,
               "%s", err);
}

void
pattern_open_milter(struct pattern *p)
{
    char err[300] = "";

    RACE_CHECK(
        hints_open(&p->hints, p->directory, 50, err, sizeof err) == STATE_OK,
        "%s", err);
}

/* Recipients are always PATTERN_RECIPIENTS times the messages; the reason of
 * a state says its until. */
void
pattern_write_quota(struct pattern *p, const struct mailbox *m, uint64_t *seed)
{
    struct cost c = {.messages = 1, .recipients = PATTERN_RECIPIENTS};
    uint64_t until_ms;
    struct taken t;
    struct room room;
    char reason[100];

    if (quota_take(p->quota, m->id, &c, 100, &t, &room)) {
        if (race_random(seed) % 2 != 0)
            quota_settle(p->quota, &t);
        if (race_random(seed) % 4 != 0)
            quota_give_back(p->quota, &t);
    }
    if (race_random(seed) % 8 != 0)
        return;
    until_ms = quota_now_ms(p->quota) + 1000000 + race_random(seed) % 1000000;
    /* The length changes with the text. */
    snprintf(reason, sizeof reason, "until %" PRIu64 "%.*s", until_ms,
             (int)(until_ms % 50),
             "...................................................");
    quota_set_state(p->quota, m->id, ACCOUNT_COOLING, until_ms, reason);
    quota_set_state(p->quota, m->id, ACCOUNT_OK, 0, "");
}

/* Length and letter follow from the serial, and so does the status. */
static void
token_text(uint64_t serial, char ret[TOKEN_TEXT_MAX], size_t *ret_len)
{
    *ret_len = serial * 2654435761u % TOKEN_TEXT_MAX + 1;
    memset(ret, (int)('a' + serial % 26), *ret_len);
}

void
pattern_write_token(struct pattern *p, uint64_t id)
{
    uint64_t wall_ms = (uint64_t)clock_wall_ms(&clock_real);
    struct token_status s = {.id = id};
    char text[TOKEN_TEXT_MAX];
    size_t len;

    token_book_get(p->book, id, &s); /* serials go on after a restart */
    s.id = id;
    s.state = TOKEN_OK;
    s.serial = s.serial < wall_ms ? wall_ms : s.serial + 1;
    s.expires_at_s = (int64_t)(wall_ms / 1000 + 1000 + s.serial % 1000);
    s.fetched_at_s = (int64_t)(s.serial * 7);
    s.next_try_at_s = (int64_t)(s.serial * 11);
    snprintf(s.identity, sizeof s.identity, "u%" PRIu64 "@example.com", id);
    snprintf(s.error, sizeof s.error, "serial %" PRIu64, s.serial);
    token_text(s.serial, text, &len);
    RACE_CHECK(token_book_publish(p->book, &s, text, len) == STATE_OK, "token");
}

void
pattern_write_hints(struct pattern *p)
{
    hints_add(p->hints, "sales@example.com", p->sales.id, PATTERN_MINUTE,
              PATTERN_RECIPIENTS, 0);
    hints_clear(p->hints, p->sales.id, PATTERN_MINUTE, PATTERN_RECIPIENTS, 0);
}

/* ---- reading ---- */

void
pattern_open_reader(struct pattern *p)
{
    p->reader = quota_reader_new(p->directory, &clock_real);
    p->status = status_reader_new(p->directory, true);
    RACE_CHECK(p->reader != NULL && p->status != NULL, "out of memory");
}

/* A reader may be told that there is nothing, or nothing now; never nonsense. */
static bool
is_good(struct pattern *p, enum state_result r, const char *what)
{
    RACE_CHECK(r == STATE_OK || r == STATE_EBUSY || r == STATE_EEMPTY ||
                   r == STATE_EABSENT,
               "%s: %s", what, state_result_text(r));
    p->good += r == STATE_OK;
    p->busy += r == STATE_EBUSY;
    p->none += r == STATE_EEMPTY || r == STATE_EABSENT;
    return r == STATE_OK;
}

static void
read_quota(struct pattern *p, const struct mailbox *m)
{
    struct quota_view v;
    char want[100];

    if (!is_good(p, quota_peek(p->reader, m->id, &v), "quota"))
        return;
    RACE_CHECK(v.id == m->id && strcmp(v.identity, m->address) == 0, "%s",
               v.identity);
    RACE_CHECK(v.n == 2, "%u windows", v.n);
    RACE_CHECK(v.window[1].used == PATTERN_RECIPIENTS * v.window[0].used,
               "%" PRIu64 " recipients, %" PRIu64 " messages", v.window[1].used,
               v.window[0].used);
    RACE_CHECK(v.window[0].used <= v.window[0].limit, "over the limit");
    RACE_CHECK(v.state == ACCOUNT_OK || v.state == ACCOUNT_COOLING, "%d",
               (int)v.state);
    if (v.state == ACCOUNT_OK)
        return;
    snprintf(want, sizeof want, "until %" PRIu64 "%.*s", v.state_until_ms,
             (int)(v.state_until_ms % 50),
             "...................................................");
    RACE_CHECK(strcmp(v.state_reason, want) == 0, "\"%s\", want \"%s\"",
               v.state_reason, want);
}

static void
read_forecast(struct pattern *p)
{
    struct cost c = {.messages = 1, .recipients = PATTERN_RECIPIENTS};
    struct cost ahead = {.messages = 5};
    struct room room;
    uint64_t now_ms;

    if (is_good(p,
                quota_forecast(p->reader, &p->sales, &c, &ahead, 100, &room,
                               &now_ms),
                "forecast"))
        RACE_CHECK(room.ok ? room.at_ms == now_ms : room.at_ms > now_ms,
                   "%d %" PRIu64, room.ok, room.at_ms);
}

static void
read_token(struct pattern *p, uint64_t id)
{
    static struct token t;
    struct token_status s;
    char text[TOKEN_TEXT_MAX], want[100];
    size_t len;

    if (is_good(p, token_read(p->status, id, &t), "token")) {
        token_text(t.serial, text, &len);
        RACE_CHECK(t.len == len && memcmp(t.text, text, len) == 0,
                   "token %" PRIu64 " is torn", t.serial);
    }
    if (is_good(p, status_peek(p->status, id, &s), "status")) {
        snprintf(want, sizeof want, "serial %" PRIu64, s.serial);
        RACE_CHECK(strcmp(s.error, want) == 0, "\"%s\", want \"%s\"", s.error,
                   want);
        RACE_CHECK(s.fetched_at_s == (int64_t)(s.serial * 7) &&
                       s.next_try_at_s == (int64_t)(s.serial * 11),
                   "status %" PRIu64 " is torn", s.serial);
        if (id != 1) /* the others are written faster than time goes */
            return;
        RACE_CHECK(s.serial >= p->newest_serial,
                   "serial %" PRIu64 " after %" PRIu64, s.serial,
                   p->newest_serial);
        p->newest_serial = s.serial;
    }
}

static void
read_hints(struct pattern *p)
{
    uint32_t messages, recipients;
    char err[300];

    if (p->hints == NULL && hints_open_reader(&p->hints, p->directory, err,
                                              sizeof err) != STATE_OK) {
        p->hints = NULL;
        return;
    }
    hints_sum(p->hints, p->sales.id, PATTERN_MINUTE, &messages, &recipients);
    RACE_CHECK(recipients == PATTERN_RECIPIENTS * messages,
               "%u recipients, %u messages", recipients, messages);
}

void
pattern_read(struct pattern *p)
{
    read_quota(p, &p->sales);
    read_quota(p, &p->news);
    read_forecast(p);
    for (uint64_t id = 1; id <= PATTERN_TOKENS; id++)
        read_token(p, id);
    read_hints(p);
}

void
pattern_close(struct pattern *p)
{
    quota_free(p->quota);
    token_book_free(p->book);
    hints_free(p->hints);
    quota_reader_free(p->reader);
    status_reader_free(p->status);
}
