/* milter/ctl/mail_fault.c - see mail_login.h: what failures are called, and
 * what to do about them.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "milter/ctl/mail_login.h"

static const struct {
    const char *name, *remedy;
} faults[MAIL_FAULTS] = {
    [MAIL_OK] = {"ok", ""},
    [MAIL_UNREACHABLE] = {"unreachable",
                          "check the host's name, routing, and that a firewall "
                          "lets this port out"},
    [MAIL_TLS_NAME] = {"tls_name",
                       "`host` must be the name in the server's certificate; "
                       "if it is, something between intercepts TLS"},
    [MAIL_TLS_CA] = {"tls_ca",
                     "install the package ca-certificates, or name the CA with "
                     "`ca_file`; if both are right, something between "
                     "intercepts TLS"},
    [MAIL_TLS_TIME] = {"tls_time",
                       "check this host's clock; if it is right, the server's "
                       "certificate has to be renewed"},
    [MAIL_TLS_SNI] = {"tls_sni",
                      "the server was not told which name is meant: `host` "
                      "must be a host name, not an address, and a proxy "
                      "between must pass the name on"},
    [MAIL_TLS_OTHER] =
        {"tls", "check `port` and `tls`: 465 is implicit, 587 starttls"},
    [MAIL_NO_STARTTLS] = {"no_starttls",
                          "check `port` and `tls`; if both are right, "
                          "something between takes STARTTLS away"},
    [MAIL_NO_MECHANISM] = {"no_mechanism",
                           "the server has another kind of login: check `host` "
                           "and `auth`"},
    [MAIL_TOKEN_REFUSED] = {"token_refused",
                            "the token is of another account, for another "
                            "scope, or was taken back; see \"gmroutectl "
                            "tokens\", then \"gmroutectl login\""},
    [MAIL_SCOPE] = {"scope",
                    "the token is not for mail: check `scope` of the client "
                    "and of its consent screen, then \"gmroutectl login\""},
    [MAIL_PASSWORD_REFUSED] = {"password_refused",
                               "make a new app password (Google Account, "
                               "Security, 2-Step Verification) and put it into "
                               "`password_file`"},
    [MAIL_APP_PASSWORD] = {"app_password_needed",
                           "the account's own password does not work here: "
                           "make an app password (Google Account, Security, "
                           "2-Step Verification), or use OAuth2"},
    [MAIL_WEB_LOGIN] = {"web_login_required",
                        "log in once with a browser as this account, answer "
                        "what is asked, then try again"},
    [MAIL_IMAP_OFF] = {"imap_off",
                       "switch IMAP on: Admin console, Apps, Gmail, End User "
                       "Access; or Gmail settings, Forwarding and POP/IMAP. "
                       "Sending does not need it"},
    [MAIL_POP_OFF] = {"pop_off",
                      "switch POP on: Admin console, Apps, Gmail, End User "
                      "Access; or Gmail settings, Forwarding and POP/IMAP. "
                      "Sending does not need it"},
    [MAIL_BUSY] = {"busy", "wait some minutes; nothing is known to be wrong"},
    [MAIL_REFUSED] = {"refused", "see the server's words"},
    [MAIL_NOT_PROTOCOL] = {"not_protocol", "is that the right host and port?"},
};

const char *
mail_fault_name(enum mail_fault f)
{
    return f < MAIL_FAULTS ? faults[f].name : "?";
}

const char *
mail_fault_remedy(enum mail_fault f)
{
    return f < MAIL_FAULTS ? faults[f].remedy : "";
}

bool
mail_fault_passes(enum mail_fault f)
{
    return f == MAIL_UNREACHABLE || f == MAIL_BUSY;
}

/* The first that fits: what Google shows without a name has all of it. */
enum mail_fault
mail_tls_fault(const char *sentence)
{
    static const struct {
        const char *part;
        enum mail_fault fault;
    } parts[] = {
        {"server name (SNI)", MAIL_TLS_SNI},
        {"No SNI", MAIL_TLS_SNI},
        {"invalid2.invalid", MAIL_TLS_SNI},
        {"certificate is for", MAIL_TLS_NAME},
        {"self-signed", MAIL_TLS_CA},
        {"unknown CA", MAIL_TLS_CA},
        {"has expired", MAIL_TLS_TIME},
        {"not valid before", MAIL_TLS_TIME},
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(sentence, parts[i].part) != NULL)
            return parts[i].fault;
    return MAIL_TLS_OTHER;
}
