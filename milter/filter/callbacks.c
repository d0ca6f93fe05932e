/* milter/filter/callbacks.c - see callbacks.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/callbacks.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <libmilter/mfapi.h>

#include "milter/base/log.h"

/* libmilter's callbacks get no argument of ours. */
static struct {
    struct session_env *env;
    struct conf_holder *conf;
    bool is_unix;
} shared;

enum {
    ACTIONS_NEEDED = SMFIF_ADDRCPT | SMFIF_ADDRCPT_PAR | SMFIF_DELRCPT,
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
    case ANSWER_ACCEPT:
        return SMFIS_ACCEPT;
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

/* Asks for the steps that the loaded policy can use, and for no more: each
 * step costs the MTA a write, and each reply a wait. */
static unsigned long
steps_wanted(const struct policy *p)
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
    return steps;
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps,
             unsigned long f2, unsigned long f3, unsigned long *ret_actions,
             unsigned long *ret_steps, unsigned long *ret_f2,
             unsigned long *ret_f3)
{
    struct connection *c = connection_new(ctx);

    (void)f2;
    (void)f3;
    *ret_f2 = *ret_f3 = 0;
    *ret_actions = actions & ACTIONS_NEEDED;
    *ret_steps = 0;
    if (c == NULL) {
        log_error("connection deferred: out of memory");
        return SMFIS_CONTINUE; /* on_mail finds no session and defers */
    }
    c->usable = (actions & ACTIONS_NEEDED) == ACTIONS_NEEDED;
    if (!c->usable)
        log_error("this MTA cannot add recipients with parameters: mail is "
                  "deferred; Postfix 2.6 or Sendmail 8.14 is needed");
    c->steps = *ret_steps = steps & steps_wanted(session_policy(c->session));
    return SMFIS_CONTINUE;
}

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

static char *
macro(SMFICTX *ctx, const char *name)
{
    char key[64];

    snprintf(key, sizeof key, "%s", name);
    return smfi_getsymval(ctx, key);
}

static sfsistat
on_mail(SMFICTX *ctx, char **args)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL || !c->usable)
        return fail(ctx);
    return answer(
        ctx, c,
        session_mail(c->session, args[0], args + 1, macro(ctx, "{auth_authen}"),
                     macro(ctx, "{tls_version}") != NULL),
        SMFIP_NR_MAIL);
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **args)
{
    struct connection *c = connection_of(ctx);

    if (c == NULL || !c->usable)
        return fail(ctx);
    return answer(ctx, c, session_rcpt(c->session, args[0], args + 1), 0);
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

    (void)part;
    if (c == NULL)
        return fail(ctx);
    return answer(ctx, c, session_body(c->session, len), SMFIP_NR_BODY);
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

static sfsistat
on_eom(SMFICTX *ctx)
{
    static const struct mta_ops ops = {op_del_rcpt, op_add_rcpt};
    struct connection *c = connection_of(ctx);

    if (c == NULL || !c->usable)
        return fail(ctx);
    return answer(ctx, c, session_eom(c->session, macro(ctx, "i"), &ops, ctx),
                  0);
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

/* libmilter never sets TCP_NODELAY and hides its listener, but connections
 * inherit the option from it: find the listener by what it is. */
static void
set_nodelay_on_listener(void)
{
    struct rlimit files;
    int last = 1024;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 1024)
        last = (int)files.rlim_cur;
    for (int fd = 3; fd < last; fd++) {
        int listens = 0, on = 1;
        socklen_t len = sizeof listens;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 &&
            listens)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
}

/* libmilter takes any socket in its way away, also one that is in use. */
static bool
is_taken(const char *listen)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *colon = strchr(listen, ':');
    const char *path = listen[0] != '/' && colon != NULL ? colon + 1 : listen;
    bool taken;
    int fd;

    if (strlen(path) >= sizeof addr.sun_path)
        return false; /* libmilter says so */
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    taken = fd >= 0 &&
            (connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 ||
             errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return taken;
}

bool
callbacks_open(struct session_env *env, struct conf_holder *conf,
               const char *listen, char *err, size_t err_size)
{
    static char program[] = "gmroute-milter";
    struct smfiDesc filter = {
        .xxfi_name = program,
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = ACTIONS_NEEDED,
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
    shared.is_unix = strncasecmp(listen, "unix:", 5) == 0 ||
                     strncasecmp(listen, "local:", 6) == 0 || listen[0] == '/';
    if (smfi_register(filter) != MI_SUCCESS ||
        smfi_setconn(address) != MI_SUCCESS) {
        snprintf(err, err_size, "milter.listen: libmilter refuses \"%s\"",
                 listen);
        free(address);
        return false;
    }
    free(address); /* libmilter keeps a copy */
    if (shared.is_unix && is_taken(listen)) {
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
        set_nodelay_on_listener();
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
