/* milter/ctl/mail_login.c - see mail_login.h: the conversation.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The response goes in a line of its own, after the server's empty challenge:
 * all three protocols know that form, and no command line gets too long.  A
 * second challenge is the JSON that a refused token is answered with; behind
 * our answer to that comes the refusal proper.
 */
#include "milter/ctl/mail_login.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { /* mail_login.step: what the next answer is to */
       GREETING,
       CAPABILITIES,
       STARTTLS,
       AUTH,
       ENDED,
};

#define TAG_CAPABILITY "a1"
#define TAG_LOGIN      "a2"

const char *
mail_protocol_name(enum mail_protocol p)
{
    static const char *const names[MAIL_PROTOCOLS] = {"SMTP", "IMAP", "POP"};

    return p < MAIL_PROTOCOLS ? names[p] : "?";
}

static enum sasl_mechanism
mechanism(const struct mail_login *m)
{
    return m->who->bearer ? SASL_XOAUTH2 : SASL_PLAIN;
}

/* ---- the server's words ---- */

/* Is `part` in the text, whatever the case? */
static bool
says(const char *text, const char *part)
{
    return strcasestr(text, part) != NULL;
}

static bool
begins(struct slice line, const char *with)
{
    size_t n = strlen(with);

    return line.len >= n && strncasecmp(line.at, with, n) == 0;
}

/* A word of a capability line; "AUTH=" counts as "AUTH ". */
static bool
has_word(struct slice line, const char *word)
{
    size_t n = strlen(word), from = 0;

    for (size_t i = 0; i <= line.len; i++) {
        if (i < line.len && line.at[i] != ' ' && line.at[i] != '=')
            continue;
        if (i - from == n && strncasecmp(line.at + from, word, n) == 0)
            return true;
        from = i + 1;
    }
    return false;
}

static void
note(struct mail_login *m, struct slice line)
{
    size_t n = strlen(m->said);

    if (n > 0 && n + 1 < sizeof m->said)
        m->said[n++] = ' ';
    for (size_t i = 0; i < line.len && n + 1 < sizeof m->said; i++)
        m->said[n++] =
            line.at[i] >= ' ' && line.at[i] <= '~' ? line.at[i] : '?';
    m->said[n] = '\0';
}

/* Keywords of the URL stay when the wording drifts. */
static enum mail_fault
fault_of(const struct mail_login *m)
{
    static const struct {
        const char *part;
        enum mail_fault fault;
    } parts[] = {
        {"InvalidSecondFactor", MAIL_APP_PASSWORD},
        {"Application-specific password", MAIL_APP_PASSWORD},
        {"WebLoginRequired", MAIL_WEB_LOGIN},
        {"WEBALERT", MAIL_WEB_LOGIN},
        {"web browser", MAIL_WEB_LOGIN},
        {"Web login required", MAIL_WEB_LOGIN},
        {"not enabled for IMAP", MAIL_IMAP_OFF},
        {"IMAP access is disabled", MAIL_IMAP_OFF},
        {"not enabled for POP", MAIL_POP_OFF},
        {"POP access is disabled", MAIL_POP_OFF},
        {"Too many", MAIL_BUSY},
        {"OVERQUOTA", MAIL_BUSY},
        {"bandwidth limits", MAIL_BUSY},
        {"Temporary System Problem", MAIL_BUSY},
        {"Try again later", MAIL_BUSY},
        {"[IN-USE]", MAIL_BUSY},
        {"[SYS/TEMP]", MAIL_BUSY},
        {"[UNAVAILABLE]", MAIL_BUSY},
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (says(m->said, parts[i].part))
            return parts[i].fault;
    if (m->step != AUTH)
        return MAIL_REFUSED;
    if (m->protocol == MAIL_SMTP && m->said[0] == '4')
        return MAIL_BUSY;
    return m->who->bearer ? MAIL_TOKEN_REFUSED : MAIL_PASSWORD_REFUSED;
}

/* ---- what we say ---- */

static enum mail_want
end(struct mail_login *m, enum mail_fault fault)
{
    static const char *const goodbye[MAIL_PROTOCOLS] = {
        "QUIT\r\n", "a9 LOGOUT\r\n", "QUIT\r\n"};

    m->fault = fault;
    m->step = ENDED;
    buf_clear(&m->out);
    buf_add_text(&m->out, goodbye[m->protocol]);
    return MAIL_WANT_NOTHING;
}

static enum mail_want
say(struct mail_login *m, unsigned step, const char *text)
{
    m->step = step;
    m->said[0] = '\0';
    buf_add_text(&m->out, text);
    buf_add_text(&m->out, "\r\n");
    return MAIL_WANT_LINE;
}

static enum mail_want
ask_capabilities(struct mail_login *m)
{
    char hello[300];

    m->offered = m->offers_starttls = false;
    if (m->protocol == MAIL_IMAP)
        return say(m, CAPABILITIES, TAG_CAPABILITY " CAPABILITY");
    if (m->protocol == MAIL_POP)
        return say(m, CAPABILITIES, "CAPA");
    snprintf(hello, sizeof hello, "EHLO %.280s", m->who->helo);
    return say(m, CAPABILITIES, hello);
}

static enum mail_want
log_in(struct mail_login *m)
{
    char command[60];

    if (m->starttls)
        return m->offers_starttls ? say(m, STARTTLS, "STARTTLS")
                                  : end(m, MAIL_NO_STARTTLS);
    if (!m->offered)
        return end(m, MAIL_NO_MECHANISM);
    snprintf(command, sizeof command, "%s %s",
             m->protocol == MAIL_IMAP ? TAG_LOGIN " AUTHENTICATE" : "AUTH",
             sasl_name(mechanism(m)));
    return say(m, AUTH, command);
}

static enum mail_want
answer_challenge(struct mail_login *m)
{
    if (m->challenges++ > 1)
        return end(m, MAIL_NOT_PROTOCOL);
    m->said[0] = '\0';
    if (m->challenges > 1)
        return say(m, AUTH, sasl_failed_answer(mechanism(m)));
    if (!sasl_response(mechanism(m), &m->who->sasl, &m->out)) {
        note(m, slice_of("the secret has characters that cannot be sent, or is "
                         "too long"));
        return end(m,
                   m->who->bearer ? MAIL_TOKEN_REFUSED : MAIL_PASSWORD_REFUSED);
    }
    buf_add_text(&m->out, "\r\n");
    return MAIL_WANT_LINE;
}

/* ---- one answer, whole ---- */

static enum mail_want
answered(struct mail_login *m, bool good)
{
    switch (m->step) {
    case GREETING:
        return good ? ask_capabilities(m) : end(m, fault_of(m));
    case CAPABILITIES:
        return good ? log_in(m) : end(m, fault_of(m));
    case STARTTLS:
        return good ? MAIL_WANT_TLS : end(m, MAIL_NO_STARTTLS);
    case AUTH:
        return end(m, good ? MAIL_OK : fault_of(m));
    default:
        return MAIL_WANT_NOTHING;
    }
}

/* ---- protocols ---- */

static enum mail_want
smtp_line(struct mail_login *m, struct slice line)
{
    bool digits = line.len >= 3;

    for (size_t i = 0; digits && i < 3; i++)
        digits = line.at[i] >= '0' && line.at[i] <= '9';
    note(m, line);
    if (!digits || (line.len > 3 && line.at[3] != ' ' && line.at[3] != '-'))
        return end(m, MAIL_NOT_PROTOCOL);
    if (m->step == CAPABILITIES && line.len > 4) {
        struct slice item = slice_from(line, 4);

        if (begins(item, "AUTH"))
            m->offered |= has_word(item, sasl_name(mechanism(m)));
        m->offers_starttls |= begins(item, "STARTTLS");
    }
    if (line.len > 3 && line.at[3] == '-')
        return MAIL_WANT_LINE;
    if (line.at[0] == '3')
        return m->step == AUTH ? answer_challenge(m)
                               : end(m, MAIL_NOT_PROTOCOL);
    return answered(m, line.at[0] == '2');
}

static enum mail_want
imap_line(struct mail_login *m, struct slice line)
{
    const char *tag = m->step == AUTH ? TAG_LOGIN : TAG_CAPABILITY;
    struct slice rest;

    if (m->step == GREETING) {
        note(m, line);
        if (!begins(line, "* OK") && !begins(line, "* BYE") &&
            !begins(line, "* PREAUTH"))
            return end(m, MAIL_NOT_PROTOCOL);
        return answered(m, begins(line, "* OK"));
    }
    if (begins(line, "* CAPABILITY"))
        m->offered |= has_word(line, sasl_name(mechanism(m)));
    if (begins(line, "* BYE")) {
        note(m, line);
        return end(m, fault_of(m));
    }
    if (begins(line, "* NO") || begins(line, "* BAD"))
        note(m, line); /* alerts come ahead of the answer */
    if (begins(line, "* "))
        return MAIL_WANT_LINE;
    if (begins(line, "+"))
        return m->step == AUTH ? answer_challenge(m)
                               : end(m, MAIL_NOT_PROTOCOL);
    rest = slice_from(line, 3);
    note(m, rest);
    if (!begins(line, tag) || line.len < 3 || line.at[2] != ' ')
        return end(m, MAIL_NOT_PROTOCOL);
    return answered(m, begins(rest, "OK"));
}

static enum mail_want
pop_line(struct mail_login *m, struct slice line)
{
    bool good = begins(line, "+OK");

    if (m->step == CAPABILITIES && m->said[0] != '\0') {
        /* Within the list, which a dot ends. */
        if (line.len == 1 && line.at[0] == '.')
            return log_in(m);
        if (begins(line, "SASL"))
            m->offered |= has_word(line, sasl_name(mechanism(m)));
        return MAIL_WANT_LINE;
    }
    if (m->step == AUTH && !good && begins(line, "+"))
        return answer_challenge(m);
    note(m, line);
    if (!good && !begins(line, "-ERR"))
        return end(m, MAIL_NOT_PROTOCOL);
    if (m->step == CAPABILITIES && good)
        return MAIL_WANT_LINE; /* the list follows */
    return answered(m, good);
}

/* ---- for the driver ---- */

void
mail_login_begin(struct mail_login *m, enum mail_protocol protocol,
                 bool starttls, const struct mail_credentials *who)
{
    *m = (struct mail_login){
        .protocol = protocol, .who = who, .starttls = starttls};
    buf_init(&m->out, 2 * SASL_RESPONSE_MAX);
    buf_reserve(&m->out, SASL_RESPONSE_MAX + 100); /* growing leaves copies */
}

enum mail_want
mail_login_line(struct mail_login *m, struct slice line)
{
    enum mail_want want;

    if (m->protocol == MAIL_IMAP)
        want = imap_line(m, line);
    else if (m->protocol == MAIL_POP)
        want = pop_line(m, line);
    else
        want = smtp_line(m, line);
    if (buf_failed(&m->out))
        want = end(m, MAIL_NOT_PROTOCOL);
    return want;
}

enum mail_want
mail_login_secured(struct mail_login *m)
{
    m->starttls = false;
    return ask_capabilities(m);
}

void
mail_login_free(struct mail_login *m)
{
    buf_wipe_free(&m->out);
}
