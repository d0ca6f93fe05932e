/* milter/filter/callbacks.c - see callbacks.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/callbacks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libmilter/mfapi.h>

#include "milter/base/log.h"
#include "milter/filter/listener.h"

/* libmilter's callbacks get no argument of ours. */
static struct {
    struct session_env *env;
    struct conf_holder *conf;
    bool is_unix;
} shared;

enum {
    ACTIONS_NEEDED = SMFIF_ADDRCPT | SMFIF_ADDRCPT_PAR | SMFIF_DELRCPT,
    ACTIONS_ALL = ACTIONS_NEEDED | SMFIF_ADDHDRS | SMFIF_CHGHDRS |
                  SMFIF_QUARANTINE | SMFIF_SETSYMLIST,
    MACRO_MAX = 128, /* octets of a macro's name */
};

/* What libmilter keeps for us with each connection. */
struct connection {
    struct session *session;
    unsigned long steps; /* protocol flags in force: SMFIP_* */
    bool usable;         /* the MTA can do what we need */
};

static struct connection *
connection_of(SMFICTX *ctx)
{
    return smfi_getpriv(ctx);
}

static sfsistat
fail(SMFICTX *ctx)
{
    smfi_setreply(ctx, "451", "4.3.0", "gmroute: temporary failure");
    return SMFIS_TEMPFAIL;
}

/* A step that the MTA was told not to wait for must not be answered. */
static sfsistat
go_on(const struct connection *c, unsigned long no_reply)
{
    return c->steps & no_reply ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

/* smfi_setreply reads '%' as the start of an escape. */
static void
set_reply(SMFICTX *ctx, const struct session_reply *r)
{
    char text[2 * sizeof r->text], *to = text;
    char code[sizeof r->code], enhanced[sizeof r->enhanced];

    for (const char *from = r->text; *from != 0; from++) {
        *to++ = *from;
        if (*from == '%')
            *to++ = '%';
    }
    *to = 0;
    memcpy(code, r->code, sizeof code);
    memcpy(enhanced, r->enhanced, sizeof enhanced);
    if (smfi_setreply(ctx, code, enhanced, text) != MI_SUCCESS)
        log_error("libmilter refused the reply \"%s %s %s\"", r->code,
                  r->enhanced, r->text);
}

static sfsistat
answer(SMFICTX *ctx, struct connection *c, enum answer a,
       unsigned long no_reply)
{
    switch (a) {
    case ANSWER_CONTINUE:
        return go_on(c, no_reply);
    case ANSWER_SKIP:
        if (c->steps & SMFIP_SKIP && !(c->steps & no_reply))
            return SMFIS_SKIP;
        return go_on(c, no_reply);
    case ANSWER_REJECT:
    case ANSWER_TEMPFAIL:
        if (c->steps & no_reply)
            return SMFIS_NOREPLY; /* the session says it again at the end */
        set_reply(ctx, session_reply(c->session));
        return a == ANSWER_REJECT ? SMFIS_REJECT : SMFIS_TEMPFAIL;
    }
    return fail(ctx);
}

static void
connection_free(struct connection *c)
{
    if (c == NULL)
        return;
    session_free(c->session);
    free(c);
}

static struct connection *
connection_new(SMFICTX *ctx)
{
    struct connection *c = calloc(1, sizeof *c);
    struct conf *conf = conf_ref(shared.conf);

    if (c != NULL)
        c->session = session_new(shared.env, conf);
    conf_unref(conf);
    if (c == NULL || c->session == NULL || smfi_setpriv(ctx, c) != MI_SUCCESS) {
        connection_free(c);
        return NULL;
    }
    return c;
}

/* ---- negotiation ---- */

/* Asks for the steps that the loaded policy can use, and for no more: each
 * step costs the MTA a write, and each reply a wait. */
static unsigned long
steps_wanted(const struct policy *p, unsigned long offered)
{
    unsigned long steps = SMFIP_NOUNKNOWN | SMFIP_NODATA | SMFIP_NOEOH;

    if (!(p->needs & POLICY_NEEDS_HELO))
        steps |= SMFIP_NOHELO;
    if (!(p->needs & (POLICY_NEEDS_HEADERS | POLICY_NEEDS_SIZE)))
        steps |= SMFIP_NOHDRS;
    if (!(p->needs & (POLICY_NEEDS_BODY | POLICY_NEEDS_SIZE)))
        steps |= SMFIP_NOBODY;
    /* Over TCP, unanswered steps run into Nagle's algorithm. */
    if (shared.is_unix)
        steps |= SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_HDR |
                 SMFIP_NR_BODY;
    /* A body that is read for its structure alone may be of no interest from
     * its first 64 KiB on: that answer is worth a wait for each of them. */
    if (offered & SMFIP_SKIP && p->needs & POLICY_NEEDS_BODY &&
        !(p->needs & POLICY_NEEDS_SIZE)) {
        steps |= SMFIP_SKIP;
        steps &= ~(unsigned long)SMFIP_NR_BODY;
    }
    return steps & offered;
}

static unsigned long
actions_wanted(const struct policy *p)
{
    unsigned long actions = ACTIONS_NEEDED | SMFIF_SETSYMLIST;

    if (p->needs & POLICY_EDITS_HEADER)
        actions |= SMFIF_ADDHDRS | SMFIF_CHGHDRS;
    if (p->needs & POLICY_EDITS_HOLD)
        actions |= SMFIF_QUARANTINE;
    return actions;
}

/* An MTA offers the same to each of its connections: said once. */
static void
log_once(atomic_flag *said, const char *text)
{
    if (!atomic_flag_test_and_set(said))
        log_error("this MTA cannot %s", text);
}

static void
log_missing(const struct policy *p, unsigned long missing)
{
    static atomic_flag header = ATOMIC_FLAG_INIT, hold = ATOMIC_FLAG_INIT,
                       macros = ATOMIC_FLAG_INIT;

    if (missing & (SMFIF_ADDHDRS | SMFIF_CHGHDRS))
        log_once(&header, "change header fields: messages of rules with "
                          "add_header or remove_header are deferred");
    if (missing & SMFIF_QUARANTINE)
        log_once(&hold, "hold a message: those of rules with hold are "
                        "deferred");
    if (missing & SMFIF_SETSYMLIST && p->needs & POLICY_NEEDS_MACROS)
        log_once(&macros, "be asked for macros: rules see those that its own "
                          "configuration sends");
}

/* "{name}", or "i" as it is: libmilter's way of writing. */
static int
write_macro(char *to, size_t room, const char *name)
{
    return snprintf(to, room, strlen(name) == 1 ? "%s" : "{%s}", name);
}

/* Tells the MTA which macros to send with a step, instead of those it sends by
 * its own configuration: the ones of ours and all that rules ask for, since
 * each MTA knows them from another step on. */
static bool
ask_for_macros(SMFICTX *ctx, const struct policy *p, int step, const char *ours)
{
    size_t room = strlen(ours) + 1;
    char *list, *to;
    bool ok;

    for (size_t i = 0; i < p->n_macros; i++)
        room += strlen(p->macros[i]) + sizeof " {}";
    list = to = malloc(room);
    if (list == NULL)
        return false;
    to += snprintf(to, room, "%s", ours);
    for (size_t i = 0; i < p->n_macros; i++) {
        if (to > list)
            *to++ = ' ';
        to += write_macro(to, room - (size_t)(to - list), p->macros[i]);
    }
    ok = smfi_setsymlist(ctx, step, list) == MI_SUCCESS;
    free(list);
    return ok;
}

static bool
ask_for_all_macros(SMFICTX *ctx, const struct policy *p)
{
    /* The queue id, for the log: Sendmail knows it from DATA on, and does not
     * send it then by itself. */
    if (!ask_for_macros(ctx, p, SMFIM_EOM, "i"))
        return false;
    if (p->n_macros == 0)
        return true; /* the MTA's own lists will do */
    return ask_for_macros(ctx, p, SMFIM_CONNECT, "") &&
           (!(p->needs & POLICY_NEEDS_HELO) ||
            ask_for_macros(ctx, p, SMFIM_HELO, "")) &&
           ask_for_macros(ctx, p, SMFIM_ENVFROM,
                          "{auth_authen} {tls_version}") &&
           ask_for_macros(ctx, p, SMFIM_ENVRCPT, "");
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps,
             unsigned long f2, unsigned long f3, unsigned long *ret_actions,
             unsigned long *ret_steps, unsigned long *ret_f2,
             unsigned long *ret_f3)
{
    struct connection *c = connection_new(ctx);
    const struct policy *p;
    unsigned long wanted;

    (void)f2;
    (void)f3;
    *ret_f2 = *ret_f3 = 0;
    *ret_actions = actions & ACTIONS_NEEDED;
    *ret_steps = 0;
    if (c == NULL) {
        log_error("connection deferred: out of memory");
        return SMFIS_CONTINUE; /* on_mail finds no session and defers */
    }
    p = session_policy(c->session);
    wanted = actions_wanted(p);
    *ret_actions = actions & wanted;
    log_missing(p, wanted & ~actions);
    c->usable = (actions & ACTIONS_NEEDED) == ACTIONS_NEEDED;
    if (!c->usable)
        log_error("this MTA cannot add recipients with parameters: mail is "
                  "deferred; Postfix 2.6 or Sendmail 8.14 is needed");
    if (actions & SMFIF_SETSYMLIST && !ask_for_all_macros(ctx, p)) {
        log_error("connection deferred: libmilter cannot ask for macros");
        c->usable = false;
    }
    c->steps = *ret_steps = steps_wanted(p, steps);
    return SMFIS_CONTINUE;
}

/* ---- what the session can ask of the MTA ---- */

static const char *
op_macro(void *mta, const char *name)
{
    char key[MACRO_MAX];

    if (write_macro(key, sizeof key, name) >= (int)sizeof key)
        return NULL;
    return smfi_getsymval(mta, key);
}

static bool
op_quarantine(void *mta, const char *reason)
{
    char *copy = strdup(reason);
    bool ok = copy != NULL && smfi_quarantine(mta, copy) == MI_SUCCESS;

    free(copy);
    return ok;
}

/* libmilter's arguments are not const. */
static bool
change_header(void *mta, const char *name, const char *value, int index)
{
    char *n = strdup(name), *v = strdup(value);
    bool ok = n != NULL && v != NULL &&
              (index > 0 ? smfi_chgheader(mta, n, index, v)
                         : smfi_addheader(mta, n, v)) == MI_SUCCESS;

    free(n);
    free(v);
    return ok;
}

static bool
op_remove_header(void *mta, const char *name, unsigned index)
{
    return change_header(mta, name, "", (int)index);
}

static bool
op_add_header(void *mta, const char *name, const char *value)
{
    return change_header(mta, name, value, 0);
}

static bool
op_del_rcpt(void *mta, const char *address)
{
    char path[1100];

    if (snprintf(path, sizeof path, "<%s>", address) >= (int)sizeof path)
        return false;
    return smfi_delrcpt(mta, path) == MI_SUCCESS;
}

static bool
op_add_rcpt(void *mta, const char *address, const char *esmtp)
{
    char path[1100], *params = strdup(esmtp);
    bool ok;

    if (params == NULL)
        return false;
    ok = snprintf(path, sizeof path, "<%s>", address) < (int)sizeof path &&
         smfi_addrcpt_par(mta, path, params) == MI_SUCCESS;
    free(params);
    return ok;
}

static const struct mta_ops mta_ops = {
    .macro = op_macro,
    .quarantine = op_quarantine,
    .remove_header = op_remove_header,
    .add_header = op_add_header,
    .del_rcpt = op_del_rcpt,
    .add_rcpt = op_add_rcpt,
};

/* ---- steps ---- */

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *addr)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL)
        return SMFIS_CONTINUE;
    session_connect(c->session, name, addr);
    return go_on(c, SMFIP_NR_CONN);
}

static sfsistat
on_helo(SMFICTX *ctx, char *helo)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL)
        return SMFIS_CONTINUE;
    session_helo(c->session, helo);
    return go_on(c, SMFIP_NR_HELO);
}

static sfsistat
on_mail(SMFICTX *ctx, char **args)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL)
        return fail(ctx);
    if (!c->usable) /* on_rcpt says so where no answer may be given here */
        return c->steps & SMFIP_NR_MAIL ? SMFIS_NOREPLY : fail(ctx);
    return answer(ctx, c,
                  session_mail(c->session, args[0], args + 1, &mta_ops, ctx),
                  SMFIP_NR_MAIL);
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **args)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL || !c->usable)
        return fail(ctx);
    return answer(
        ctx, c, session_rcpt(c->session, args[0], args + 1, &mta_ops, ctx), 0);
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL)
        return fail(ctx);
    return answer(ctx, c, session_header(c->session, name, value),
                  SMFIP_NR_HDR);
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *part, size_t len)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL)
        return fail(ctx);
    return answer(ctx, c, session_body(c->session, part, len), SMFIP_NR_BODY);
}

static sfsistat
on_eom(SMFICTX *ctx)
{
    struct connection *c = connection_of(ctx);
    uint64_t began_us = clock_us();
    sfsistat status;

    if (c == NULL || !c->usable)
        return fail(ctx);
    status = answer(ctx, c, session_eom(c->session, &mta_ops, ctx), 0);
    hints_count_decision(shared.env->admit.hints, clock_us() - began_us);
    return status;
}

static sfsistat
on_abort(SMFICTX *ctx)
{
    struct connection *c = connection_of(ctx);

    if (c != NULL)
        session_reset(c->session);
    return SMFIS_CONTINUE;
}

static sfsistat
on_close(SMFICTX *ctx)
{
    connection_free(connection_of(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

bool
callbacks_open(struct session_env *env, struct conf_holder *conf,
               const char *listen, char *err, size_t err_size)
{
    static char program[] = "gmroute-milter";
    struct smfiDesc filter = {
        .xxfi_name = program,
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = ACTIONS_ALL,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_header = on_header,
        .xxfi_body = on_body,
        .xxfi_eom = on_eom,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_negotiate = on_negotiate,
    };
    char *address = strdup(listen);
    mode_t mask;
    int opened;

    if (address == NULL) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    shared.env = env;
    shared.conf = conf;
    shared.is_unix = listener_is_unix(listen);
    if (smfi_register(filter) != MI_SUCCESS ||
        smfi_setconn(address) != MI_SUCCESS) {
        snprintf(err, err_size, "milter.listen: libmilter refuses \"%s\"",
                 listen);
        free(address);
        return false;
    }
    free(address); /* libmilter keeps a copy */
    if (shared.is_unix && listener_is_taken(listen)) {
        snprintf(err, err_size,
                 "milter.listen: another process listens on \"%s\"", listen);
        return false;
    }
    /* Owner and group of the directory say who may connect. */
    mask = umask(0117);
    errno = 0;
    opened = smfi_opensocket(shared.is_unix);
    umask(mask);
    if (opened != MI_SUCCESS) {
        snprintf(err, err_size,
                 "milter.listen: cannot open \"%s\": %s; is the directory "
                 "there and writable?",
                 listen, errno != 0 ? strerror(errno) : "libmilter says no");
        return false;
    }
    if (!shared.is_unix)
        listener_set_nodelay();
    return true;
}

bool
callbacks_run(void)
{
    return smfi_main() == MI_SUCCESS;
}

void
callbacks_stop(void)
{
    smfi_stop();
}
