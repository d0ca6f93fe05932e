/* policy/decide_account.c - which accounts can serve a sender; see decide.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "policy/address.h"
#include "policy/decide_private.h"
#include "policy/header.h"
#include "policy/idn.h"
#include "policy/index.h"
#include "policy/line.h"
#include "policy/match.h"
#include "policy/pick.h"
#include "policy/scratch.h"

/* Why not: `what`, with the value it is about behind it.  Always false. */
static bool
refuse(char *why, const char *what, struct slice value, const char *rest)
{
    struct line l;

    if (why == NULL)
        return false;
    l = line_start(why, WHY_TEXT);
    line_add(&l, "%s", what);
    line_value(&l, value, "none");
    line_add(&l, "%s", rest);
    return false;
}

/* ---- trust ---- */

/* The SASL login is the sender: the whole address, or its local part when
 * the login is no address. */
static bool
login_is_sender(struct slice login, struct slice sender)
{
    char canonical[MATCH_ADDRESS_MAX];
    size_t len = address_canonical(sender, canonical, sizeof canonical);
    struct slice s;
    const char *at;

    idn_address((struct slice){canonical, len}, canonical, sizeof canonical,
                &len);
    s = len > 0 ? (struct slice){canonical, len} : sender;
    if (login.len == 0 || s.len == 0)
        return false;
    if (memchr(login.at, '@', login.len) != NULL)
        return slice_eq_nocase(login, s);
    at = memrchr(s.at, '@', s.len);
    if (at != NULL)
        s.len = (size_t)(at - s.at);
    return slice_eq_nocase(login, s);
}

/* Without case; b is what was sorted. */
static int
compare_nocase(struct slice a, const char *b)
{
    for (size_t i = 0; i < a.len; i++) {
        unsigned char x = (unsigned char)slice_lower(a.at[i]);
        unsigned char y = (unsigned char)slice_lower(b[i]);

        if (x != y || y == 0)
            return x < y ? -1 : 1;
    }
    return b[a.len] == '\0' ? 0 : -1;
}

/* The logins are sorted, in lower case. */
static bool
in_logins(const struct trust *t, struct slice login)
{
    size_t low = 0, high = login.len > 0 ? t->n_logins : 0;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare_nocase(login, t->logins[mid]);

        if (c == 0)
            return true;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return false;
}

static bool
is_trusted(const struct trust *t, const struct facts *f)
{
    if (t->any || (t->local && f->local))
        return true;
    if (t->login && login_is_sender(f->auth, f->sender))
        return true;
    if (in_logins(t, f->auth))
        return true;
    for (size_t i = 0; i < t->n_clients; i++)
        if (match_network(&t->clients[i], &f->client))
            return true;
    return false;
}

static bool
check_trust(const struct account *a, const struct facts *f, char *why)
{
    /* What our ledger tells of was let in when it came. */
    if (match_client_untold(f) || is_trusted(&a->trust, f))
        return true;
    return refuse(why, "trust does not let this sender in; login is ", f->auth,
                  "");
}

/* ---- templates ---- */

static const char *
map_find(const struct account *a, struct slice alias)
{
    size_t low = 0, high = a->n_map;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare_nocase(alias, a->map[mid].alias);

        if (c == 0)
            return a->map[mid].mailbox;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* A mailbox of the map stands for itself, too. */
static const char *
map_mailbox(const struct account *a, struct slice address, struct slice local)
{
    for (size_t i = 0; i < a->n_map; i++) {
        struct slice m = slice_of(a->map[i].mailbox);

        if (slice_eq_nocase(m, address) || slice_eq_nocase(m, local))
            return a->map[i].mailbox;
    }
    return NULL;
}

/* The sender in its parts.  The extension begins at the first '+' that has
 * something before it. */
struct sender {
    char room[MATCH_ADDRESS_MAX];
    struct slice whole, local, domain;
    char plain_room[MATCH_ADDRESS_MAX];
    struct slice plain, plain_local; /* without the extension */
};

static bool
sender_parse(struct slice raw, struct sender *ret)
{
    size_t len = address_canonical(raw, ret->room, sizeof ret->room);
    const char *at, *plus;

    if (len == 0)
        return false;
    idn_address((struct slice){ret->room, len}, ret->room, sizeof ret->room,
                &len);
    ret->whole = (struct slice){ret->room, len};
    at = memrchr(ret->room, '@', len);
    ret->local = (struct slice){ret->room, (size_t)(at - ret->room)};
    ret->domain = slice_from(ret->whole, ret->local.len + 1);
    ret->plain_local = ret->local;
    plus = ret->local.len > 1
               ? memchr(ret->local.at + 1, '+', ret->local.len - 1)
               : NULL;
    if (plus != NULL)
        ret->plain_local.len = (size_t)(plus - ret->local.at);
    memcpy(ret->plain_room, ret->local.at, ret->plain_local.len);
    memcpy(ret->plain_room + ret->plain_local.len, at, ret->domain.len + 1);
    ret->plain = (struct slice){ret->plain_room,
                                ret->plain_local.len + 1 + ret->domain.len};
    return true;
}

static const char *
map_sender(const struct account *a, const struct sender *s)
{
    const char *found = map_find(a, s->whole);

    if (found == NULL)
        found = map_find(a, s->plain);
    if (found == NULL)
        found = map_find(a, s->local);
    if (found == NULL)
        found = map_find(a, s->plain_local);
    if (found == NULL)
        found = map_mailbox(a, s->plain, s->plain_local);
    return found;
}

/* RFC 5321 4.1.2, Dot-string: no mailbox at Google has more.  Nor '*', which
 * would be taken for the template itself. */
static bool
is_dot_string(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];

        if (c == '.'
                ? i == 0 || i + 1 == s.len || s.at[i - 1] == '.'
                : c <= ' ' || c >= 0x7F || strchr("()<>@,;:\\\"[]*", c) != NULL)
            return false;
    }
    return s.len > 0;
}

/* Writes the address that the template comes to for this sender. */
static bool
template_fill(const struct account *a, struct slice raw,
              char ret[MAILBOX_MAX + 1], char *why)
{
    struct slice local, domain = slice_of(a->domain);
    const char *mapped = NULL, *at;
    struct sender s;

    if (!sender_parse(raw, &s))
        return refuse(why, "sender is ", raw.len > 0 ? raw : slice_of("<>"),
                      ", which fills no template");
    if (!slice_eq_nocase(s.domain, domain))
        return refuse(why, "sender is ", raw, ", of another domain");
    local = s.plain_local;
    if (a->n_map > 0) {
        mapped = map_sender(a, &s);
        if (mapped == NULL)
            return refuse(why, "sender is ", raw, ", not in the map");
        local = slice_of(mapped);
        at = memrchr(local.at, '@', local.len);
        if (at != NULL) {
            local.len = (size_t)(at - local.at);
            if (!slice_eq_nocase(slice_of(at + 1), domain))
                return refuse(why, "the map says ", slice_of(mapped),
                              ", of another domain");
        }
    }
    if (!is_dot_string(local) || local.len + 1 + domain.len > MAILBOX_MAX)
        return refuse(why, "sender is ", raw, ", which is no mailbox's name");
    for (size_t i = 0; i < local.len; i++)
        ret[i] = slice_lower(local.at[i]);
    ret[local.len] = '@';
    for (size_t i = 0; i <= domain.len; i++) /* with the NUL */
        ret[local.len + 1 + i] = slice_lower(a->domain[i]);
    return true;
}

/* ---- mailboxes ---- */

static void
mailbox_of_named(const struct account *a, struct mailbox *ret)
{
    ret->account = a;
    ret->id = a->id;
    memcpy(ret->address, a->address, strlen(a->address) + 1);
}

/* Without trust.  *ret_nomem is set, never cleared; a template's identity is
 * written into `identity`. */
static bool
mailbox_fill(const struct account *a, struct slice sender, struct scratch *s,
             struct mailbox *ret, char identity[IDENTITY_MAX + 1], char *why,
             bool *ret_nomem)
{
    if (!a->is_template) {
        mailbox_of_named(a, ret);
        return true;
    }
    if (!template_fill(a, sender, ret->address, why))
        return false;
    ret->account = a;
    ret->id = scratch_identity(s, ret->address, a->smarthost->name, identity);
    if (ret->id != 0)
        return true;
    *ret_nomem = true;
    return refuse(why, "out of memory, account ", slice_of(a->name), "");
}

bool
decide_mailbox(const struct account *a, const struct facts *f,
               struct mailbox *ret, char *why)
{
    char identity[IDENTITY_MAX + 1];
    struct mailbox m;
    bool nomem;

    if (!mailbox_fill(a, f->sender, NULL, &m, identity, why, &nomem) ||
        !check_trust(a, f, why))
        return false;
    *ret = m;
    return true;
}

/* A template filled in with the address of a named account is that account,
 * with its settings; who may use it is asked of both. */
static bool
serve(const struct decide_listing *l, const struct account *a,
      struct mailbox *ret, char *why, bool *ret_nomem)
{
    char identity[IDENTITY_MAX + 1];
    const struct account *named;

    if (!mailbox_fill(a, l->f->sender, l->scratch, ret, identity, why,
                      ret_nomem) ||
        (l->check_trust && !check_trust(a, l->f, why)))
        return false;
    if (!a->is_template)
        return true;
    named = policy_find_identity(l->p, identity);
    if (named == NULL || named->is_template)
        return true;
    if (l->check_trust && !check_trust(named, l->f, why))
        return false;
    mailbox_of_named(named, ret);
    return true;
}

/* ---- the steps of a plan ---- */

/* What is in the list so far. */
struct list {
    const struct decide_listing *asked;
    struct candidate *candidate;
    unsigned n, max; /* max: leaves room for the steps that are no accounts */
    unsigned n_accounts, n_served;
    char *why; /* of the first account that cannot serve; NULL = not wanted */
    bool nomem;
};

static void
list_account(struct list *l, const struct account *a, const struct pool *pool,
             unsigned weight)
{
    struct candidate *c = &l->candidate[l->n];
    char why[WHY_TEXT] = "";
    bool first = l->n_accounts++ == 0 && l->why != NULL;

    if (l->n >= l->max)
        return;
    if (!serve(l->asked, a, &c->mailbox, first ? why : NULL, &l->nomem)) {
        if (first) {
            struct line line = line_start(l->why, WHY_TEXT);

            line_add(&line, "account ");
            line_value(&line, slice_of(a->name), "");
            line_add(&line, ": %s", why);
        }
        return;
    }
    l->n_served++;
    for (unsigned i = 0; i < l->n; i++)
        if (l->candidate[i].kind == STEP_ACCOUNT &&
            l->candidate[i].mailbox.id == c->mailbox.id)
            return;
    c->kind = STEP_ACCOUNT;
    c->pool = pool;
    c->weight = weight;
    c->reply = NULL;
    l->n++;
}

/* What a message draws its member of a weighted pool with: the same whenever it
 * is decided again, whatever recipient it is for. */
static uint64_t
message_seed(const struct facts *f)
{
    for (size_t i = 0; i < f->n_headers; i++)
        if (slice_eq_nocase(f->header[i].name, SLICE_LIT("Message-ID")))
            return pick_seed(slice_trim(f->header[i].value));
    return pick_seed(f->sender) ^ (uint64_t)f->now_s;
}

/* The members from `start` on in the order of their draws.  (most_room and
 * round_robin are admission's: they need to know more than the message.) */
static void
order_pool(struct list *l, unsigned start, const struct pool *pool)
{
    bool weighted = pool->pick == PICK_WEIGHTED;
    uint64_t seed =
        weighted ? message_seed(l->asked->f) : pick_seed(l->asked->f->sender);

    for (unsigned i = start; i + 1 < l->n; i++) {
        unsigned first = i;
        double least = HUGE_VAL;
        struct candidate c;

        for (unsigned k = i; k < l->n; k++) {
            double draw = pick_draw(seed, l->candidate[k].mailbox.id,
                                    weighted ? l->candidate[k].weight : 1);

            if (draw < least) {
                least = draw;
                first = k;
            }
        }
        c = l->candidate[first];
        l->candidate[first] = l->candidate[i];
        l->candidate[i] = c;
    }
}

static void
list_pool(struct list *l, const struct pool *pool)
{
    unsigned start = l->n;

    for (size_t i = 0; i < pool->n; i++)
        list_account(l, pool->member[i].account, pool, pool->member[i].weight);
    if (pool->pick == PICK_WEIGHTED || pool->pick == PICK_BY_SENDER)
        order_pool(l, start, pool);
}

static void
list_step(struct list *l, const struct step *step)
{
    struct candidate *c;

    if (step->kind == STEP_ACCOUNT) {
        list_account(l, step->account, NULL, 1);
        return;
    }
    if (step->kind == STEP_POOL) {
        list_pool(l, step->pool);
        return;
    }
    if (l->n >= CANDIDATES_MAX)
        return;
    c = &l->candidate[l->n++];
    c->kind = step->kind;
    c->mailbox.account = NULL;
    c->mailbox.id = 0;
    c->mailbox.address[0] = '\0';
    c->pool = NULL;
    c->weight = 0;
    c->reply = step->reply;
}

static bool
is_account_step(const struct step *step)
{
    return step->kind == STEP_ACCOUNT || step->kind == STEP_POOL;
}

bool
decide_list(const struct decide_listing *asked, const struct plan *plan,
            struct candidate ret[CANDIDATES_MAX], unsigned *ret_n, char *why)
{
    struct list l = {
        .asked = asked, .candidate = ret, .max = CANDIDATES_MAX, .why = why};

    for (unsigned i = 0; i < plan->n; i++)
        if (!is_account_step(&plan->step[i]) && l.max > 1)
            l.max--;
    for (unsigned i = 0; i < plan->n; i++) {
        if (!is_account_step(&plan->step[i]) && l.max < CANDIDATES_MAX)
            l.max++;
        list_step(&l, &plan->step[i]);
    }
    /* What `otherwise` says is for accounts that are full or unusable now,
     * not for senders that none of them serves. */
    *ret_n = l.n_accounts > 0 && l.n_served == 0 ? 0 : l.n;
    return !l.nomem;
}

unsigned
decide_candidates(const struct policy *p, const struct plan *plan,
                  struct slice sender, struct candidate ret[CANDIDATES_MAX])
{
    const struct facts f = {.stage = FACTS_EOM, .sender = sender};
    const struct decide_listing asked = {.p = p, .f = &f};
    unsigned n;

    decide_list(&asked, plan, ret, &n, NULL);
    return n;
}

/* ---- from: require ---- */

/* An entry of send_as: an address, or "@domain". */
static bool
entry_allows(struct slice entry, struct slice address)
{
    if (entry.len > 0 && entry.at[0] == '@')
        return entry.len > 1 && address.len > entry.len &&
               slice_ends_nocase(address, entry);
    return slice_eq_nocase(entry, address);
}

bool
mailbox_owns(const struct mailbox *m, struct slice address)
{
    char room[HEADER_ADDRESS_MAX + 1];

    if (idn_address(address, room, sizeof room, &address.len) == IDN_OK)
        address.at = room;
    if (slice_eq_nocase(slice_of(m->address), address))
        return true;
    for (size_t i = 0; i < m->account->n_send_as; i++)
        if (entry_allows(slice_of(m->account->send_as[i]), address))
            return true;
    return false;
}

/* Parses once more in place of asking the scratch, so that it cannot fail for
 * want of memory. */
bool
decide_from_allowed(const struct mailbox *m, const struct facts *f)
{
    struct header_address a;
    size_t n = 0;

    for (size_t i = 0; i < f->n_headers; i++) {
        struct header_addresses it;

        if (!slice_eq_nocase(slice_trim(f->header[i].name), SLICE_LIT("From")))
            continue;
        it = header_addresses(f->header[i].value);
        while (header_next_address(&it, &a)) {
            n++;
            if (!mailbox_owns(m, (struct slice){a.text, a.len}))
                return false;
        }
        if (it.garbage)
            return false;
    }
    return n > 0;
}
