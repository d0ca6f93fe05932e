/* milter/filter/session.c - see session.h: facts in, answers out.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/session.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "milter/base/log.h"
#include "milter/filter/message_plan.h"
#include "milter/filter/session_private.h"
#include "policy/address.h"

#define CLAIM_MAX (1ull << 40) /* octets of SIZE= */

struct session *
session_new(struct session_env *env, struct conf *conf)
{
    struct session *s = calloc(1, sizeof *s);
    bool reads_mime = (conf->policy->needs & POLICY_NEEDS_BODY) != 0;

    if (s == NULL)
        return NULL;
    s->scratch = scratch_new();
    s->connection = arena_new();
    s->env = env;
    s->conf = conf_ref_again(conf);
    if (reads_mime)
        s->mime = mime_new();
    if (s->scratch == NULL || s->connection == NULL ||
        (reads_mime && s->mime == NULL)) {
        session_free(s);
        return NULL;
    }
    session_reset(s);
    return s;
}

void
session_free(struct session *s)
{
    if (s == NULL)
        return;
    arena_free(s->arena);
    free(s->headers.at);
    free(s->macros.at);
    mime_free(s->mime);
    scratch_free(s->scratch);
    arena_free(s->connection);
    conf_unref(s->conf);
    free(s->helo);
    free(s);
}

const struct policy *
session_policy(const struct session *s)
{
    return s->conf->policy;
}

const struct session_reply *
session_reply(const struct session *s)
{
    return &s->reply;
}

void
session_reset(struct session *s)
{
    arena_free(s->arena);
    s->arena = NULL;
    free(s->headers.at);
    free(s->macros.at);
    s->headers = s->macros = (struct pairs){0};
    s->sender = s->auth = (struct slice){NULL, 0};
    s->recipients = NULL;
    s->recipients_end = &s->recipients;
    s->n_recipients = 0;
    s->claimed_octets = s->size_octets = 0;
    s->queue_id = "";
    s->tls = s->local = s->failed = s->headers_cut = false;
    scratch_reset(s->scratch);
    if (s->mime != NULL)
        mime_reset(s->mime);
}

/* "5.7.1 text": length of the code, when its class is the reply's. */
static size_t
enhanced_length(const char *text, char klass)
{
    unsigned subject, detail;
    int len = 0;

    if (text[0] != klass || text[1] != '.' ||
        sscanf(text + 2, "%3u.%3u%n", &subject, &detail, &len) != 2)
        return 0;
    len += 2;
    return text[len] == ' ' || text[len] == 0 ? (size_t)len : 0;
}

/* "550 5.7.1 text" in its three parts; the policy compiler has checked the
 * codes of its own replies. */
enum answer
session_answer(struct session *s, const char *reply)
{
    struct session_reply *r = &s->reply;
    const char *text = reply + 3;
    size_t len;

    memset(r, 0, sizeof *r);
    memcpy(r->code, reply, 3);
    while (*text == ' ')
        text++;
    len = enhanced_length(text, reply[0]);
    if (len > 0 && len < sizeof r->enhanced) {
        memcpy(r->enhanced, text, len);
        text += len;
    } else {
        snprintf(r->enhanced, sizeof r->enhanced, "%c.7.1", reply[0]);
    }
    while (*text == ' ')
        text++;
    snprintf(r->text, sizeof r->text, "%s", text);
    return reply[0] == '5' ? ANSWER_REJECT : ANSWER_TEMPFAIL;
}

enum answer
session_fail(struct session *s, const char *what)
{
    struct log_line l = log_line(LOG_LEVEL_ERROR);

    if (!s->failed) { /* not again for each step that follows */
        hints_count(s->env->admit.hints, HINTS_FAILED, 1);
        log_kv(&l, "queue", s->queue_id);
        log_kv_slice(&l, "from", s->sender);
        log_kv(&l, "action", "defer");
        log_kv(&l, "why", what);
        log_end(&l);
    }
    s->failed = true;
    return session_answer(s, "451 4.3.0 gmroute: temporary failure");
}

/* Returns false when nobody came over the network: sendmail(1), whose mail
 * Postfix shows as from port 0 of this host, other MTAs without an address.
 * (A proxy that hides the port cannot hide behind that.) */
static bool
client_address(struct facts_client *c, const struct sockaddr *addr)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const struct sockaddr_in *in = (const void *)addr;
    const struct sockaddr_in6 *in6 = (const void *)addr;

    c->known = addr != NULL &&
               (addr->sa_family == AF_INET || addr->sa_family == AF_INET6);
    if (!c->known)
        return false;
    if (addr->sa_family == AF_INET) {
        memcpy(c->address, mapped, sizeof mapped);
        memcpy(c->address + 12, &in->sin_addr, 4);
        return in->sin_port != 0 || c->address[12] != 127;
    }
    memcpy(c->address, &in6->sin6_addr, 16);
    return in6->sin6_port != 0 || !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static bool
in_networks(const struct facts_client *c, const struct network *net, size_t n)
{
    for (size_t i = 0; c->known && i < n; i++) {
        unsigned whole = net[i].bits / 8, rest = net[i].bits % 8;
        unsigned mask = rest != 0 ? 0xffu << (8 - rest) & 0xffu : 0;

        if (memcmp(c->address, net[i].address, whole) == 0 &&
            (rest == 0 ||
             ((c->address[whole] ^ net[i].address[whole]) & mask) == 0))
            return true;
    }
    return false;
}

void
session_connect(struct session *s, const char *name,
                const struct sockaddr *addr)
{
    const struct policy *p = session_policy(s);

    s->no_client = !client_address(&s->client, addr);
    s->client.name =
        slice_of(arena_copy(s->connection, slice_of(name != NULL ? name : "")));
    s->lost |= s->client.name.at == NULL;
    s->reinjects = in_networks(&s->client, p->milter.reinject_from,
                               p->milter.n_reinject_from);
}

void
session_helo(struct session *s, const char *helo)
{
    free(s->helo); /* EHLO may come any number of times */
    s->helo = strdup(helo);
    s->lost |= s->helo == NULL;
}

/* Postfix gives paths with <> from SMTP and without from sendmail(1). */
static struct slice
without_brackets(struct slice path)
{
    if (path.len >= 2 && path.at[0] == '<' && path.at[path.len - 1] == '>')
        return (struct slice){path.at + 1, path.len - 2};
    return path;
}

/* RFC 5321 F.2: "@one,@two:user@domain"; the route means nothing today, and
 * Postfix deletes a recipient only under its spelling without it. */
static struct slice
without_route(struct slice path)
{
    const char *colon;

    if (path.len == 0 || path.at[0] != '@')
        return path;
    colon = memchr(path.at, ':', path.len);
    return colon != NULL ? slice_from(path, (size_t)(colon - path.at) + 1)
                         : path;
}

static bool
pairs_add(struct session *s, struct pairs *p, const char *name,
          const char *value)
{
    struct facts_pair *grown;

    if (p->n == p->room) {
        size_t room = p->room != 0 ? p->room * 2 : 32;

        grown = reallocarray(p->at, room, sizeof *grown);
        if (grown == NULL)
            return false;
        p->at = grown;
        p->room = room;
    }
    /* RFC 5322 4.5.3 had white space before the colon; readers still take it. */
    p->at[p->n].name =
        slice_of(arena_copy(s->arena, slice_trim(slice_of(name))));
    p->at[p->n].value = slice_of(arena_copy(s->arena, slice_of(value)));
    if (p->at[p->n].name.at == NULL || p->at[p->n].value.at == NULL)
        return false;
    p->n++;
    return true;
}

/* ---- macros ---- */

/* "rcpt_addr" and the like have another value for each RCPT. */
static bool
is_of_rcpt(const char *macro)
{
    return strncmp(macro, "rcpt_", 5) == 0;
}

static bool
has_macro(const struct session *s, const char *name)
{
    for (size_t i = 0; i < s->macros.n; i++)
        if (slice_eq(s->macros.at[i].name, slice_of(name)))
            return true;
    return false;
}

/* Keeps those of the connection and the message that rules ask for and that
 * were not there before. */
static bool
keep_macros(struct session *s, const struct mta_ops *ops, void *mta)
{
    const struct policy *p = session_policy(s);

    for (size_t i = 0; i < p->n_macros; i++) {
        const char *name = p->macros[i], *value;

        if (is_of_rcpt(name) || has_macro(s, name))
            continue;
        value = ops->macro(mta, name);
        if (value != NULL && !pairs_add(s, &s->macros, name, value))
            return false;
    }
    return true;
}

/* Keeps those of this RCPT with it. */
static bool
keep_rcpt_macros(struct session *s, struct recipient *r,
                 const struct mta_ops *ops, void *mta)
{
    const struct policy *p = session_policy(s);
    struct facts_pair *kept = NULL;

    for (size_t i = 0; i < p->n_macros; i++) {
        const char *name = p->macros[i], *value;

        if (!is_of_rcpt(name))
            continue;
        value = ops->macro(mta, name);
        if (value == NULL)
            continue;
        if (kept == NULL)
            kept = arena_alloc(s->arena, p->n_macros, sizeof *kept);
        if (kept == NULL)
            return false;
        value = arena_copy(s->arena, slice_of(value));
        if (value == NULL)
            return false;
        kept[r->n_macros].name = slice_of(name);
        kept[r->n_macros].value = slice_of(value);
        r->n_macros++;
    }
    r->macro = kept;
    return true;
}

/* ---- the message, step by step ---- */

enum answer
session_mail(struct session *s, const char *path, char *const *args,
             const struct mta_ops *ops, void *mta)
{
    const char *auth = ops->macro(mta, "auth_authen");
    struct slice sender = slice_of(path);
    bool bare = sender.len == 0 || sender.at[0] != '<';

    session_reset(s);
    s->arena = arena_new();
    if (s->arena == NULL || s->lost)
        return session_fail(s, "out of memory");
    s->now_ms = clock_wall_ms(s->env->admit.clock);
    s->sender =
        slice_of(arena_copy(s->arena, without_route(without_brackets(sender))));
    s->auth =
        slice_of(arena_copy(s->arena, slice_of(auth != NULL ? auth : "")));
    if (s->sender.at == NULL || s->auth.at == NULL || !keep_macros(s, ops, mta))
        return session_fail(s, "out of memory");
    s->tls = ops->macro(mta, "tls_version") != NULL;
    /* A client could leave out the brackets too, but it has an address. */
    s->local = bare && s->no_client;
    for (; args != NULL && *args != NULL; args++)
        if (strncasecmp(*args, "SIZE=", 5) == 0)
            s->claimed_octets = strtoull(*args + 5, NULL, 10);
    if (s->claimed_octets > CLAIM_MAX)
        s->claimed_octets = 0; /* nobody's message */
    return ANSWER_CONTINUE;
}

void
session_facts(const struct session *s, enum facts_stage stage, struct facts *f)
{
    *f = (struct facts){
        .stage = stage,
        .now_s = s->now_ms / 1000,
        .local = s->local,
        .tls = s->tls,
        .client = s->client,
        .helo = slice_of(s->helo),
        .auth = s->auth,
        .sender = s->sender,
        .n_macros = s->macros.n,
        .macro = s->macros.at,
        .n_headers = s->headers.n,
        .header = s->headers.at,
        .size_octets = s->size_octets,
        .n_recipients = s->n_recipients,
    };
    if (stage == FACTS_EOM && s->mime != NULL) {
        f->attachment = mime_names(s->mime, &f->n_attachments);
        f->attachments_cut = mime_cut(s->mime);
    }
}

/* A tag that comes in from outside: only a content filter that we know may
 * bring our own back. */
static enum answer
tagged_recipient(struct session *s, struct slice address)
{
    const char *tag_domain = session_policy(s)->milter.tag_domain;
    enum ticket_result result = TICKET_EFOREIGN;
    struct tag tag;

    if (s->reinjects) {
        result = ticket_read(address, tag_domain, s->env->keys, &tag);
        if (result == TICKET_OK)
            return ANSWER_CONTINUE;
    }
    hints_count(s->env->admit.hints, HINTS_FORGED, 1);
    log_warn("refused recipient=<%.*s>: address of our own tag domain %s from "
             "client=%.*s%s%s",
             SLICE_FMT(address), tag_domain, SLICE_FMT(s->client.name),
             s->reinjects ? ": " : ", which is not in milter.reinject_from",
             s->reinjects ? ticket_result_text(result) : "");
    return session_answer(s, "550 5.7.1 Recipient address is reserved for "
                             "internal use");
}

static struct recipient *
recipient_new(struct session *s, struct slice spelling)
{
    struct recipient *r = arena_alloc(s->arena, 1, sizeof *r);
    char canonical[TAGGED_MAX + 1];

    if (r == NULL)
        return NULL;
    r->spelling = arena_copy(s->arena, spelling);
    if (address_canonical(spelling, canonical, sizeof canonical) > 0) {
        for (char *c = canonical; *c != 0; c++)
            *c = slice_lower(*c);
        r->folded = arena_copy(s->arena, slice_of(canonical));
    } else {
        r->folded = r->spelling; /* stays with the MTA */
    }
    return r->spelling != NULL && r->folded != NULL ? r : NULL;
}

enum answer
session_rcpt(struct session *s, const char *path, char *const *args,
             const struct mta_ops *ops, void *mta)
{
    struct slice address = without_route(without_brackets(slice_of(path)));
    const struct policy *p = session_policy(s);
    struct recipient *r;

    if (s->failed || s->arena == NULL)
        return session_fail(s, "an earlier step of the message failed");
    r = recipient_new(s, address);
    if (r == NULL || !keep_rcpt_macros(s, r, ops, mta))
        return session_fail(s, "out of memory");
    if (ticket_is_tagged(address, p->milter.tag_domain)) {
        enum answer a = tagged_recipient(s, address);

        if (a != ANSWER_CONTINUE)
            return a;
        r->tagged_already = true;
    } else if (p->needs & POLICY_NEEDS_RCPT_REPLY) {
        struct decision *d = &s->decision;
        struct facts f;

        session_facts(s, FACTS_RCPT, &f);
        f.n_rcpt_macros = r->n_macros;
        f.rcpt_macro = r->macro;
        if (decide(p, &f, address, s->scratch, d, NULL) != DECIDE_OK)
            return session_fail(s, "out of memory");
        /* A temporary refusal of sendmail(1) would be tried again every
         * minute for ever: the queue, which ends, takes it instead. */
        if (d->action == ACTION_REJECT ||
            (d->action == ACTION_DEFER && !s->local)) {
            message_log_refused(s, r->spelling, d);
            return session_answer(s, d->reply);
        }
    }
    for (; args != NULL && *args != NULL; args++) {
        const char **kept = strncasecmp(*args, "ORCPT=", 6) == 0    ? &r->orcpt
                            : strncasecmp(*args, "NOTIFY=", 7) == 0 ? &r->notify
                                                                    : NULL;

        if (kept == NULL)
            continue;
        *kept = arena_copy(s->arena, slice_of(*args));
        if (*kept == NULL)
            return session_fail(s, "out of memory");
    }
    *s->recipients_end = r;
    s->recipients_end = &r->next;
    s->n_recipients++;
    return ANSWER_CONTINUE;
}

enum answer
session_header(struct session *s, const char *name, const char *value)
{
    if (s->failed || s->arena == NULL)
        return ANSWER_CONTINUE; /* answered at the end of the message */
    if (s->headers.n == HEADERS_MAX)
        s->headers_cut = true;
    else if (!pairs_add(s, &s->headers, name, value))
        return session_fail(s, "out of memory");
    if (s->mime != NULL)
        mime_header(s->mime, slice_of(name), slice_of(value));
    /* "Name: value" and a line end of two octets for each line of it. */
    s->size_octets += strlen(name) + 1 + strlen(value) + 2;
    for (const char *c = strchr(value, '\n'); c != NULL;
         c = strchr(c + 1, '\n'))
        s->size_octets += c == value || c[-1] != '\r';
    if (value[0] != ' ' && value[0] != '\t')
        s->size_octets++;
    return ANSWER_CONTINUE;
}

enum answer
session_body(struct session *s, const void *piece, size_t octets)
{
    bool more = (session_policy(s)->needs & POLICY_NEEDS_SIZE) != 0;

    s->size_octets += octets;
    if (s->failed || s->arena == NULL)
        return ANSWER_SKIP; /* answered at the end of the message */
    if (s->mime != NULL && mime_wants_body(s->mime)) {
        mime_body(s->mime, piece, octets);
        more |= mime_wants_body(s->mime);
    }
    return more ? ANSWER_CONTINUE : ANSWER_SKIP;
}

enum answer
session_eom(struct session *s, const struct mta_ops *ops, void *mta)
{
    const char *queue_id = ops->macro(mta, "i");
    enum answer a;

    s->queue_id = queue_id != NULL ? queue_id : "";
    s->size_octets += 2; /* the empty line behind the header */
    if (s->failed || s->arena == NULL)
        a = session_fail(s, "an earlier step of the message failed");
    else if (!keep_macros(s, ops, mta))
        a = session_fail(s, "out of memory");
    else
        a = message_finish(s, ops, mta);
    session_reset(s);
    return a;
}
