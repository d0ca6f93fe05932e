/* milter/deliver/control.c - see control.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter/base/control.h"
#include "milter/base/log.h"
#include "milter/base/place.h"

enum { BACKLOG = 16, LINE_MS = 2000, ACCEPT_PAUSE_MS = 100 };

struct control {
    int fd, stop;  /* stop: an eventfd */
    bool by_group; /* the socket's mode says who may ask */
    struct relay_env *env;
    pthread_t thread;
    struct sockaddr_un addr;
};

/* ---- what is asked ---- */

/* "ok " and what has been done; and what is wrong with the book, which then
 * keeps the entry and writes it when it can. */
static void done(struct control *c, enum ledger_result written,
                 char ret[CONTROL_LINE_MAX], const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void
done(struct control *c, enum ledger_result written, char ret[CONTROL_LINE_MAX],
     const char *fmt, ...)
{
    char text[600], trouble[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (written == LEDGER_OK) {
        snprintf(ret, CONTROL_LINE_MAX, "ok %s", text);
        return;
    }
    ledger_trouble(c->env->ledger, trouble, sizeof trouble);
    snprintf(ret, CONTROL_LINE_MAX,
             "ok %s, which the ledger cannot be told yet: %s", text, trouble);
}

static void
set_state(struct control *c, const struct mailbox *m,
          const struct control_request *q, char ret[CONTROL_LINE_MAX])
{
    bool pause = q->verb == CONTROL_PAUSE;
    enum account_state state = pause ? ACCOUNT_PAUSED : ACCOUNT_OK;
    const char *reason = pause ? q->text : "";

    quota_set_state(c->env->quota, m->id, state, 0, reason);
    done(c,
         ledger_set_state(c->env->ledger, q->identity, m->id, state, 0, reason,
                          0),
         ret, "%s is %s", m->address, account_state_name(state));
}

/* Nothing leads from one divert into another: whoever asks where the mail of an
 * account goes finds it in one step, and no two can make a loop. */
static void
divert(struct control *c, const struct mailbox *m, const struct mailbox *to,
       const struct control_request *q, char ret[CONTROL_LINE_MAX])
{
    struct quota *quota = c->env->quota;
    char identity[IDENTITY_MAX + 1];

    if (m->id == to->id) {
        snprintf(ret, CONTROL_LINE_MAX,
                 "no mail for %s cannot be diverted to itself", m->address);
    } else if (quota_divert(quota, to->id, identity)) {
        snprintf(ret, CONTROL_LINE_MAX,
                 "no mail for %s is itself diverted, to %s: name that one, or "
                 "end that first",
                 to->address, identity);
    } else if (quota_diverted_here(quota, m->id, identity)) {
        snprintf(ret, CONTROL_LINE_MAX,
                 "no mail for %s is diverted to %s: end that first", identity,
                 m->address);
    } else {
        quota_set_divert(quota, m->id, to->id);
        done(c,
             ledger_set_divert(c->env->ledger, q->identity, m->id, q->other,
                               to->id),
             ret, "mail for %s goes through %s", m->address, to->address);
    }
}

static void
divert_end(struct control *c, const struct mailbox *m,
           const struct control_request *q, char ret[CONTROL_LINE_MAX])
{
    quota_set_divert(c->env->quota, m->id, 0);
    done(c, ledger_set_divert(c->env->ledger, q->identity, m->id, "", 0), ret,
         "mail for %s is no longer diverted", m->address);
}

static void
quota_reset(struct control *c, const struct mailbox *m,
            char ret[CONTROL_LINE_MAX])
{
    quota_forget(c->env->quota, m->id);
    done(c, ledger_forget(c->env->ledger, m->id), ret,
         "what %s has spent is forgotten", m->address);
}

/* An account of the configuration, with its place in memory. */
static bool
find(struct control *c, const struct conf *conf, const char *identity,
     struct mailbox *ret_mailbox, char ret[CONTROL_LINE_MAX])
{
    if (!policy_mailbox(conf->policy, identity, ret_mailbox)) {
        snprintf(ret, CONTROL_LINE_MAX,
                 "no the agent's configuration has no account %s", identity);
        return false;
    }
    if (quota_open(c->env->quota, ret_mailbox) != STATE_OK) {
        snprintf(ret, CONTROL_LINE_MAX,
                 "no there is no memory slot for account %s: raise "
                 "state.accounts",
                 identity);
        return false;
    }
    return true;
}

static void
obey(struct control *c, const struct control_request *q, uid_t uid,
     char ret[CONTROL_LINE_MAX])
{
    struct conf *conf = conf_ref(c->env->conf);
    struct mailbox m, other;
    struct log_line l;

    if (find(c, conf, q->identity, &m, ret)) {
        switch (q->verb) {
        case CONTROL_PAUSE:
        case CONTROL_RESUME:
            set_state(c, &m, q, ret);
            break;
        case CONTROL_DIVERT:
            if (find(c, conf, q->other, &other, ret))
                divert(c, &m, &other, q, ret);
            break;
        case CONTROL_DIVERT_END:
            divert_end(c, &m, q, ret);
            break;
        case CONTROL_QUOTA_RESET:
            quota_reset(c, &m, ret);
            break;
        }
    }
    conf_unref(conf);
    l = log_line(ret[0] == 'o' ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    log_kv(&l, "control", control_verb_name(q->verb));
    log_kv(&l, "account", q->identity);
    if (q->other[0] != '\0')
        log_kv(&l, "other", q->other);
    log_kv_u64(&l, "uid", uid);
    if (q->text[0] != '\0')
        log_kv(&l, "reason", q->text);
    log_kv(&l, "answer", ret + 3);
    log_end(&l);
}

/* ---- the socket ---- */

/* One line without its end, within LINE_MS. */
static bool
read_line(int fd, char ret[CONTROL_LINE_MAX])
{
    struct timeval limit = {.tv_sec = LINE_MS / 1000};
    size_t n = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (n < CONTROL_LINE_MAX - 1) {
        ssize_t got = recv(fd, ret + n, CONTROL_LINE_MAX - 1 - n, 0);
        char *end;

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        end = memchr(ret + n, '\n', (size_t)got);
        n += (size_t)got;
        if (end != NULL) {
            *end = '\0';
            return strlen(ret) == (size_t)(end - ret); /* no NUL inside */
        }
    }
    return false;
}

static void
serve(struct control *c, int fd)
{
    char line[CONTROL_LINE_MAX], reply[CONTROL_LINE_MAX];
    struct control_request q;
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return;
    if (!c->by_group && peer.uid != 0 && peer.uid != geteuid()) {
        log_warn("control: refused uid=%u: only root and the agent's own user "
                 "may change accounts",
                 (unsigned)peer.uid);
        snprintf(reply, sizeof reply,
                 "no only root and the agent's own user may do that");
    } else if (!read_line(fd, line)) {
        return;
    } else if (!control_parse(line, &q)) {
        snprintf(reply, sizeof reply,
                 "no the agent does not understand the request: is it of "
                 "another version?");
    } else {
        obey(c, &q, peer.uid, reply);
    }
    len = (socklen_t)strlen(reply);
    if (len == sizeof reply - 1)
        len--;
    reply[len++] = '\n';
    (void)!send(fd, reply, len, MSG_NOSIGNAL);
}

static void *
run(void *cookie)
{
    struct control *c = cookie;
    struct pollfd fd[2] = {{.fd = c->stop, .events = POLLIN},
                           {.fd = c->fd, .events = POLLIN}};

    for (;;) {
        int peer;

        if (poll(fd, 2, -1) < 0 && errno != EINTR)
            break;
        if (fd[0].revents != 0)
            break;
        peer = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0) {
            /* No descriptors left: poll() would go on saying that there is
             * somebody. */
            if (errno != EAGAIN && errno != EINTR)
                poll(fd, 1, ACCEPT_PAUSE_MS);
            continue;
        }
        serve(c, peer);
        close(peer);
    }
    return NULL;
}

static bool
listen_at(struct control *c, const char *runtime, char *err, size_t err_size)
{
    char place[sizeof c->addr.sun_path];
    mode_t mask;
    bool ok =
        place_of(runtime, CONTROL_PLACE, place, sizeof place, &c->by_group);
    int n = snprintf(c->addr.sun_path, sizeof c->addr.sun_path,
                     "%s/" CONTROL_SOCKET, place);

    c->addr.sun_family = AF_UNIX;
    if (!ok || n < 0 || (size_t)n >= sizeof c->addr.sun_path) {
        snprintf(err, err_size,
                 "state.runtime: %s is too long for a socket in it", runtime);
        return false;
    }
    /* An agent that died left it; a living one holds the quota memory, and we
     * would not have come here. */
    unlink(c->addr.sun_path);
    mask = umask(c->by_group ? 0117 : 0177);
    ok = bind(c->fd, (const struct sockaddr *)&c->addr, sizeof c->addr) == 0;
    umask(mask);
    if (ok && listen(c->fd, BACKLOG) == 0)
        return true;
    snprintf(err, err_size, "%s: %s", c->addr.sun_path, strerror(errno));
    return false;
}

struct control *
control_open(const char *runtime, struct relay_env *env, char *err,
             size_t err_size)
{
    struct control *c = calloc(1, sizeof *c);
    int error;

    snprintf(err, err_size, "out of memory");
    if (c == NULL)
        return NULL;
    c->env = env;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    c->stop = eventfd(0, EFD_CLOEXEC);
    if (c->fd < 0 || c->stop < 0) {
        snprintf(err, err_size, "control socket: %s", strerror(errno));
    } else if (listen_at(c, runtime, err, err_size)) {
        error = pthread_create(&c->thread, NULL, run, c);
        if (error == 0)
            return c;
        snprintf(err, err_size, "control socket: %s", strerror(error));
        unlink(c->addr.sun_path);
    }
    if (c->fd >= 0)
        close(c->fd);
    if (c->stop >= 0)
        close(c->stop);
    free(c);
    return NULL;
}

void
control_close(struct control *c)
{
    static const uint64_t one = 1;

    if (c == NULL)
        return;
    (void)!write(c->stop, &one, sizeof one);
    pthread_join(c->thread, NULL);
    unlink(c->addr.sun_path);
    close(c->fd);
    close(c->stop);
    free(c);
}
