/* milter/token/alert_letter.c - see alert_letter.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/alert_letter.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { QUOTED_MAX = IDENTITY_MAX + 2 };

/* The first that fits; %s in `remedy` is the subject, quoted for a shell. */
static const struct row {
    enum alert_topic topic;
    const char *state; /* NULL = any */
    const char *title, *remedy;
} rows[] = {
    {ALERT_TOKEN, "needs_login", "needs a login", "gmroutectl login %s"},
    {ALERT_TOKEN, "no_mailbox", "has no mailbox",
     "correct the address in gmroute.yaml, or make the mailbox; then: "
     "gmroutectl verify %s"},
    {ALERT_TOKEN, NULL, "gets no token",
     "what the reason says; then: gmroutectl verify %s"},
    {ALERT_CLIENT, "transient", "gets no answer from its token endpoint",
     "look at network, DNS and the provider's status page; it is tried again "
     "by itself"},
    {ALERT_CLIENT, "unauthorized", "is not authorized",
     "what the reason says; it is tried again hourly, after SIGHUP at once"},
    {ALERT_CLIENT, NULL, "is refused",
     "what the reason says; a changed secret file is tried at once, anything "
     "else within ten minutes"},
    {ALERT_QUOTA, NULL, "has nearly used a limit", "gmroutectl quota %s"},
    {ALERT_ENDING, NULL, "has a refresh token that ends soon",
     "gmroutectl login %s"},
    {ALERT_UNUSED, NULL, "has a refresh token that was not used for months",
     "gmroutectl tokens %s"},
};

static const struct row *
row_of(const struct alert *a)
{
    const struct row *r = rows;

    while (r->topic != a->topic ||
           (r->state != NULL && strcmp(r->state, a->state) != 0))
        r++;
    return r;
}

static bool
is_plain(const char *text, const char *more)
{
    for (const char *c = text; *c != '\0'; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
              (*c >= '0' && *c <= '9') || strchr(more, *c) != NULL))
            return false;
    return text[0] != '\0';
}

/* For a shell, whoever pastes it. */
static void
quote(const char *text, char ret[QUOTED_MAX + 1])
{
    bool plain = is_plain(text, "@._+-") && text[0] != '-';

    if (plain || !is_plain(text, "@._+- !#$%&*/=?^`{|}~\"()<>[]:;,\\"))
        snprintf(ret, QUOTED_MAX + 1, "%s", plain ? text : "ACCOUNT");
    else
        snprintf(ret, QUOTED_MAX + 1, "'%s'", text);
}

void
alert_remedy(const struct alert *a, char ret[ALERT_REMEDY_MAX + 1])
{
    const char *remedy = row_of(a)->remedy, *at = strstr(remedy, "%s");
    char subject[QUOTED_MAX + 1];

    ret[0] = '\0';
    if (alert_is_ok(a))
        return;
    quote(a->subject, subject);
    if (at == NULL)
        snprintf(ret, ALERT_REMEDY_MAX + 1, "%s", remedy);
    else
        snprintf(ret, ALERT_REMEDY_MAX + 1, "%.*s%s%s", (int)(at - remedy),
                 remedy, subject, at + 2);
}

static void
when(int64_t at_s, char *ret, size_t size)
{
    time_t t = (time_t)at_s;
    struct tm tm;

    if (at_s <= 0 || gmtime_r(&t, &tm) == NULL ||
        strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(ret, size, "not known");
}

/* What that means for mail; "" = nothing yet. */
static const char *
effect(const struct alert *a)
{
    if (alert_is_ok(a))
        return "";
    switch (a->topic) {
    case ALERT_TOKEN:
    case ALERT_CLIENT:
        return "\nMail goes on for as long as the tokens at hand are valid; "
               "then it waits, or\ngoes where the rule's `otherwise` says.\n";
    case ALERT_QUOTA:
        return "\nWhat does not fit waits, or goes where the rule's "
               "`otherwise` says.\n";
    default:
        return "\nMail goes on. When the refresh token has ended it waits, or "
               "goes where the\nrule's `otherwise` says.\n";
    }
}

void
alert_letter(const struct alert *a, const char *host, const char *to,
             char ret[ALERT_LETTER_MAX + 1])
{
    const char *title = alert_is_ok(a) ? "is well again" : row_of(a)->title;
    bool plain = is_plain(a->subject, "@._+- /=:");
    char remedy[ALERT_REMEDY_MAX + 1], since[40];

    alert_remedy(a, remedy);
    when(a->since_s, since, sizeof since);
    snprintf(ret, ALERT_LETTER_MAX + 1,
             "To: %s\n"
             "Subject: gmroute on %s: %s %s\n"
             "Auto-Submitted: auto-generated\n"
             "MIME-Version: 1.0\n"
             "Content-Type: text/plain; charset=utf-8\n"
             "Content-Transfer-Encoding: 8bit\n"
             "\n"
             "What:   %s %s (%s: %s)\n"
             "%s%s%s"
             "Since:  %s\n"
             "Where:  gmroute-token on %s\n"
             "%s%s%s"
             "%s"
             "\n`gmroutectl tokens` and `gmroutectl quota` show how it stands "
             "now.\n",
             to, host, plain ? a->subject : "an account", title, a->subject,
             title, alert_topic_name(a->topic), a->state,
             a->why[0] != '\0' ? "Why:    " : "", a->why,
             a->why[0] != '\0' ? "\n" : "", since, host,
             remedy[0] != '\0' ? "To do:  " : "", remedy,
             remedy[0] != '\0' ? "\n" : "", effect(a));
}
