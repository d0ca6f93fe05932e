/* tests/unit/filter/filter_case.c - see filter_case.h
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/filter/filter_case.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "milter/base/log.h"
#include "policy/diag.h"
#include "tests/unit/state/fixture.h"

enum { PATH_OCTETS_MAX = 1100 };

static const struct ticket_keys keys = {
    1, {{7, "a key of thirty-two octets: ..."}}};
static char directory[100], err[300], text[64 * 1024];
static struct conf_holder *holder;
static struct quota *quota;
static const struct mail *mail; /* on its way */
static const char *rcpt_macro;  /* of the RCPT being given */
static bool at_end;

struct session_env case_env;
unsigned case_refuse_edit, case_edits, case_pieces_wanted;
size_t case_piece;
char case_log[64 * 1024];

/* ---- surroundings ---- */

static void
keep_line(enum log_level level, const char *line)
{
    size_t len = strlen(case_log);

    (void)level;
    snprintf(case_log + len, sizeof case_log - len, "%s\n", line);
}

void
case_log_has(const char *part)
{
    if (strstr(case_log, part) == NULL)
        fail_msg("no \"%s\" in the log:\n%s", part, case_log);
}

void
case_log_lacks(const char *part)
{
    if (strstr(case_log, part) != NULL)
        fail_msg("\"%s\" in the log:\n%s", part, case_log);
}

void
case_open(const char *yaml)
{
    struct diag d;
    struct policy *p =
        policy_compile(yaml, strlen(yaml), "/etc/gmroute/gmroute.yaml",
                       &(struct policy_files){0}, &d);

    for (unsigned i = 0; p == NULL && i < d.n; i++)
        print_error("%u:%u: %s\n", d.item[i].at.line, d.item[i].at.col,
                    d.item[i].text);
    assert_non_null(p);
    case_close();
    fixture_directory(directory, sizeof directory);
    holder = conf_holder_new(p);
    assert_non_null(holder);
    memset(&case_env, 0, sizeof case_env);
    case_env.keys = &keys;
    case_env.admit.clock = &fixture_clock;
    case_env.admit.quota = quota_reader_new(directory, &fixture_clock);
    case_env.admit.status = status_reader_new(directory, false);
    if (hints_open(&case_env.admit.hints, directory, 50, err, sizeof err) !=
            STATE_OK ||
        quota_make(&quota, directory, p, &fixture_clock, 0, err, sizeof err) !=
            STATE_OK)
        fail_msg("%s", err);
    log_capture(keep_line);
    case_refuse_edit = 0;
    case_piece = 0;
}

void
case_close(void)
{
    if (holder == NULL)
        return;
    hints_free(case_env.admit.hints);
    quota_reader_free(case_env.admit.quota);
    status_reader_free(case_env.admit.status);
    quota_free(quota);
    conf_holder_free(holder);
    fixture_remove(directory);
    log_capture(NULL);
    holder = NULL;
}

const struct policy *
case_policy(void)
{
    struct conf *c = conf_ref(holder);
    const struct policy *p = c->policy;

    conf_unref(c); /* the holder keeps it */
    return p;
}

void
case_pause(const char *account)
{
    const struct account *a = policy_account(case_policy(), account);
    struct mailbox m;

    assert_non_null(a);
    m = fixture_mailbox(a, a->address);
    quota_set_state(quota, m.id, ACCOUNT_PAUSED, 0, "an administrator");
}

uint64_t
case_count(enum hints_stat s)
{
    return hints_stat(case_env.admit.hints, s);
}

/* ---- the MTA ---- */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void
say(const char *fmt, ...)
{
    size_t len = strlen(text);
    va_list ap;

    if (len > 0)
        len += (size_t)snprintf(text + len, sizeof text - len, "; ");
    va_start(ap, fmt);
    vsnprintf(text + len, sizeof text - len, fmt, ap);
    va_end(ap);
}

/* The value behind "name=", or NULL. */
static const char *
value_of(const char *pair, const char *name)
{
    size_t len = strlen(name);

    return pair != NULL && strncmp(pair, name, len) == 0 && pair[len] == '='
               ? pair + len + 1
               : NULL;
}

static const char *
value_in(const char *const pair[MACROS_MAX], const char *name)
{
    for (unsigned i = 0; i < MACROS_MAX; i++)
        if (value_of(pair[i], name) != NULL)
            return value_of(pair[i], name);
    return NULL;
}

/* As libmilter does: the last thing that was said, also of the RCPT before
 * the end of the message. */
static const char *
mta_macro(void *mta, const char *name)
{
    (void)mta;
    if (strcmp(name, "auth_authen") == 0)
        return mail->login;
    if (at_end && strcmp(name, "i") == 0)
        return "QUEUEID";
    if (value_of(rcpt_macro, name) != NULL)
        return value_of(rcpt_macro, name);
    if (at_end && value_in(mail->late, name) != NULL)
        return value_in(mail->late, name);
    return value_in(mail->macro, name);
}

static bool
taken(void)
{
    assert_true(at_end); /* libmilter allows edits then only */
    return ++case_edits != case_refuse_edit;
}

static bool
mta_quarantine(void *mta, const char *reason)
{
    (void)mta;
    say("hold %s", reason);
    return taken();
}

static bool
mta_remove_header(void *mta, const char *name, unsigned index)
{
    (void)mta;
    say("-%s[%u]", name, index);
    return taken();
}

static bool
mta_add_header(void *mta, const char *name, const char *value)
{
    (void)mta;
    say("+%s: %s", name, value);
    return taken();
}

static bool
mta_del_rcpt(void *mta, const char *address)
{
    (void)mta;
    say("del %s", address);
    return taken();
}

static bool
mta_add_rcpt(void *mta, const char *address, const char *esmtp)
{
    const struct policy *p = case_policy();
    char own[PATH_OCTETS_MAX];
    struct mailbox m = {0};
    struct tag tag;

    (void)mta;
    if (ticket_read(slice_of(address), p->milter.tag_domain, &keys, &tag) !=
        TICKET_OK)
        fail_msg("no tag of ours: %s", address);
    if (!tag.ticket.refuse && !tag.ticket.defer)
        assert_true(ticket_mailbox(p, tag.account, &m));
    snprintf(own, sizeof own, "ORCPT=rfc822;%s", tag.recipient);
    say("tag %s %s%s%s", tag.recipient,
        tag.ticket.refuse  ? "refuse"
        : tag.ticket.defer ? "defer"
                           : m.address,
        strcmp(esmtp, own) != 0 ? " " : "",
        strcmp(esmtp, own) != 0 ? esmtp : "");
    return taken();
}

const struct mta_ops case_ops = {
    .macro = mta_macro,
    .quarantine = mta_quarantine,
    .remove_header = mta_remove_header,
    .add_header = mta_add_header,
    .del_rcpt = mta_del_rcpt,
    .add_rcpt = mta_add_rcpt,
};

/* ---- one message ---- */

struct session *
case_connect(const struct mail *m)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(40000)};
    struct conf *c = conf_ref(holder);
    struct session *s = session_new(&case_env, c);
    char address[40];

    conf_unref(c);
    if (s == NULL)
        return NULL;
    snprintf(address, sizeof address, "192.0.2.%s",
             m->client != NULL ? m->client : "1");
    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    session_connect(s, m->local ? "localhost" : "client.test",
                    m->local ? NULL : (struct sockaddr *)&in);
    if (m->helo != NULL)
        session_helo(s, m->helo);
    return s;
}

static const char *
reply_of(const struct session *s)
{
    static char reply[400];
    const struct session_reply *r = session_reply(s);

    snprintf(reply, sizeof reply, "%s %s %s", r->code, r->enhanced, r->text);
    return reply;
}

/* NULL-terminated, as libmilter gives them. */
static char **
args_of(const char *arg)
{
    static char room[300];
    static char *args[2];

    snprintf(room, sizeof room, "%s", arg != NULL ? arg : "");
    args[0] = arg != NULL ? room : NULL;
    return args;
}

static void
send_headers(struct session *s, const char *headers)
{
    char line[4096], *value;
    size_t len;

    for (const char *at = headers; at != NULL && *at != 0;) {
        const char *end = strchr(at, '\n');

        while (end != NULL && end[1] == ' ')
            end = strchr(end + 1, '\n');
        assert_non_null(end);
        len = (size_t)(end - at);
        assert_true(len < sizeof line);
        memcpy(line, at, len);
        line[len] = 0;
        value = strchr(line, ':');
        assert_non_null(value);
        *value++ = 0;
        session_header(s, line, value + (*value == ' '));
        at = end + 1;
    }
}

static void
send_body(struct session *s, const char *body)
{
    size_t len = body != NULL ? strlen(body) : 0;
    size_t most = case_piece != 0 ? case_piece : len;
    enum answer a = ANSWER_CONTINUE;

    case_pieces_wanted = 0;
    for (size_t at = 0; at < len && a != ANSWER_SKIP; at += most) {
        size_t n = len - at < most ? len - at : most;
        char *piece = malloc(n); /* so that a byte too far is seen */

        assert_non_null(piece);
        memcpy(piece, body + at, n);
        a = session_body(s, piece, n);
        free(piece);
        case_pieces_wanted += a != ANSWER_SKIP;
    }
}

static void
send_envelope(struct session *s, const struct mail *m)
{
    session_mail(s, m->sender != NULL ? m->sender : "<someone@else.test>",
                 args_of(m->arg), &case_ops, NULL);
    for (unsigned i = 0; i < RCPTS_MAX && m->rcpt[i] != NULL; i++) {
        char path[PATH_OCTETS_MAX];
        const char *arg = strstr(m->rcpt[i], "> ");
        size_t len =
            arg != NULL ? (size_t)(arg + 1 - m->rcpt[i]) : strlen(m->rcpt[i]);

        snprintf(path, sizeof path, "%.*s", (int)len, m->rcpt[i]);
        rcpt_macro = m->rcpt_macro[i];
        if (session_rcpt(s, path, args_of(arg != NULL ? arg + 2 : NULL),
                         &case_ops, NULL) != ANSWER_CONTINUE)
            say("rcpt %s: %s", path, reply_of(s));
    }
}

void
case_mail_begins(const struct mail *m)
{
    mail = m;
    rcpt_macro = NULL;
    at_end = false;
    text[0] = case_log[0] = 0;
    case_edits = 0;
}

const char *
case_send_over(struct session *s, const struct mail *m)
{
    static char edits[sizeof text];
    enum answer a;
    size_t told;

    case_mail_begins(m);
    send_envelope(s, m);
    send_headers(s, m->headers);
    send_body(s, m->body);
    told = strlen(text);
    at_end = true;
    a = session_eom(s, &case_ops, NULL);
    /* The reply comes before what was asked for on the way to it. */
    snprintf(edits, sizeof edits, "%s",
             text + told + (told > 0 && text[told] != 0 ? 2 : 0));
    text[told] = 0;
    say("%s", a == ANSWER_CONTINUE ? "250" : reply_of(s));
    if (edits[0] != 0)
        say("%s", edits);
    return text;
}

const char *
case_send(const struct mail *m)
{
    struct session *s = case_connect(m);
    const char *got;

    assert_non_null(s);
    got = case_send_over(s, m);
    session_free(s);
    return got;
}

void
case_rows(const char *yaml, const struct row *row, size_t n)
{
    struct session *s;

    case_open(yaml);
    for (size_t i = 0; i < n; i++) {
        print_message("  %s\n", row[i].name);
        assert_string_equal(case_send(&row[i].mail), row[i].want);
    }
    s = case_connect(&row[0].mail);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(case_send_over(s, &row[i].mail), row[i].want);
    for (size_t i = n; i-- > 0;)
        assert_string_equal(case_send_over(s, &row[i].mail), row[i].want);
    session_free(s);
    case_close();
}
