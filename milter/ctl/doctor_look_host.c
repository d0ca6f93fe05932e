/* milter/ctl/doctor_look_host.c - looks at sockets, directories, files, names
 * and memory of this host.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/magic.h>
#include <netdb.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/conf.h"
#include "milter/base/place.h"
#include "milter/ctl/doctor.h"
#include "milter/ctl/look.h"
#include "milter/ctl/mta_plan.h"

enum { RESOLVE_S = 8, GROUPS_MAX = 64, KEYS_MAX = 256 };

struct user {
    uid_t uid;
    int n;
    gid_t group[GROUPS_MAX];
};

struct looking {
    const struct doctor_case *k;
    const struct look *look;
    struct doctor_host *h;
    struct look_daemon daemon[2]; /* agent, token daemon */
    bool nomem;
};

static const char *
keep(struct looking *l, const char *text)
{
    const char *ret = arena_copy(l->k->arena, slice_of(text));

    l->nomem = l->nomem || ret == NULL;
    return ret != NULL ? ret : "";
}

/* ---- files ---- */

static struct file_fact
file_of(struct looking *l, const char *path)
{
    struct file_fact f = {.path = keep(l, path)};
    struct stat st;
    char to[PATH_MAX];
    ssize_t n;

    if (lstat(path, &st) != 0) {
        f.error = errno;
        return f;
    }
    f.is_link = S_ISLNK(st.st_mode);
    if (f.is_link) {
        n = readlink(path, to, sizeof to - 1);
        to[n > 0 ? n : 0] = '\0';
        f.leads_to = keep(l, to);
        if (stat(path, &st) != 0)
            return f;
    }
    f.is_directory = S_ISDIR(st.st_mode);
    f.mode = st.st_mode & 07777;
    f.uid = st.st_uid;
    f.changed_s = st.st_mtime;
    return f;
}

static bool
find_user(const char *name, struct user *ret)
{
    struct passwd p, *found = NULL;
    char text[4096];

    if (getpwnam_r(name, &p, text, sizeof text, &found) != 0 || found == NULL)
        return false;
    ret->uid = p.pw_uid;
    ret->n = GROUPS_MAX;
    if (getgrouplist(name, p.pw_gid, ret->group, &ret->n) < 0)
        ret->n = GROUPS_MAX;
    return true;
}

/* May this user do what `bit` (1 = search, 2 = write) says? */
static bool
may(const struct user *u, const struct stat *st, unsigned bit)
{
    if (u->uid == 0)
        return true;
    if (u->uid == st->st_uid)
        return (st->st_mode >> 6 & bit) != 0;
    for (int i = 0; i < u->n; i++)
        if (u->group[i] == st->st_gid)
            return (st->st_mode >> 3 & bit) != 0;
    return (st->st_mode & bit) != 0;
}

/* Walks down to the socket: who is stopped, and by what. */
static void
walk(struct looking *l, const char *path, const struct user *u,
     struct socket_fact *s)
{
    char part[PATH_MAX];
    bool others = true;

    for (size_t i = 1; i <= strlen(path) && i < sizeof part; i++) {
        struct stat st;
        bool end = path[i] == '\0';
        unsigned bit = end ? 2 : 1;

        if (!end && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (stat(part, &st) != 0)
            return;
        if (u != NULL && s->blocked_at == NULL && !may(u, &st, bit))
            s->blocked_at = keep(l, part);
        others = others && (st.st_mode & bit) != 0;
        /* In a sticky one they cannot move what is not theirs; Sendmail
         * minds all the same. */
        if (!end && (st.st_mode & 2) != 0 &&
            ((st.st_mode & S_ISVTX) == 0 || l->k->sendmail != NULL))
            s->world_parent = keep(l, part);
    }
    s->others_may = others;
}

static void
look_socket(struct looking *l, const char *what, const char *listen,
            const struct user *u, struct socket_fact *s)
{
    const char *path = mta_socket_path(listen), *slash;
    char why[300], directory[PATH_MAX];

    *s = (struct socket_fact){.listen = listen, .what = what};
    s->listens = look_listens(listen, NULL, why, sizeof why);
    s->why = keep(l, why);
    if (path == NULL || strlen(path) >= sizeof directory)
        return;
    s->file = file_of(l, path);
    strcpy(directory, path);
    slash = strrchr(directory, '/');
    directory[slash != NULL && slash > directory ? slash - directory : 1] =
        '\0';
    s->directory = file_of(l, directory);
    walk(l, path, u, s);
}

static void
look_labels(struct looking *l)
{
    const char *path = mta_socket_path(l->k->policy->deliver.listen);
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    char label[PATH_MAX];

    for (unsigned i = 0; i < TICKET_QUEUES && slash != NULL; i++) {
        snprintf(label, sizeof label, "%.*s/q%02u.sock", (int)(slash - path),
                 path, i);
        l->h->label[i] = file_of(l, label);
    }
}

static void
look_space(const char *what, const char *path, struct space_fact *ret)
{
    struct statfs s;

    *ret = (struct space_fact){.what = what, .path = path};
    if (path == NULL || statfs(path, &s) != 0) {
        ret->error = path != NULL ? errno : ENOENT;
        return;
    }
    ret->is_tmpfs = s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC;
    ret->free = (uint64_t)s.f_bavail * (uint64_t)s.f_bsize;
    ret->size = (uint64_t)s.f_blocks * (uint64_t)s.f_bsize;
    ret->free_files = s.f_ffree;
    ret->files = s.f_files;
}

static int
newest_first(const void *a, const void *b)
{
    const struct file_fact *x = a, *y = b;

    return (x->changed_s < y->changed_s) - (x->changed_s > y->changed_s);
}

static void
look_keys(struct looking *l)
{
    const char *directory = l->k->policy->state.directory;
    char path[PATH_MAX], err[400];
    struct ticket_keys keys;
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof path, "%s/keys", directory);
    dir = opendir(path);
    l->h->keys = arena_alloc(l->k->arena, KEYS_MAX, sizeof *l->h->keys);
    if (dir == NULL || l->h->keys == NULL) {
        l->nomem = l->nomem || l->h->keys == NULL;
        if (dir != NULL)
            closedir(dir);
        return; /* the daemons make it */
    }
    while ((d = readdir(dir)) != NULL && l->h->n_keys < KEYS_MAX) {
        if (d->d_name[0] == '.' || strstr(d->d_name, ".key") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/keys/%s", directory, d->d_name);
        l->h->keys[l->h->n_keys++] = file_of(l, path);
    }
    closedir(dir);
    if (l->h->n_keys == 0)
        return;
    qsort(l->h->keys, l->h->n_keys, sizeof *l->h->keys, newest_first);
    if (!conf_ticket_keys(directory, &keys, err, sizeof err))
        l->h->keys_err = keep(l, err);
    explicit_bzero(&keys, sizeof keys);
}

/* ---- daemons ---- */

/* Whose process it is. */
static bool
user_of(const struct look_daemon *d, uid_t *ret)
{
    char path[40];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%u", d->info.maker_pid);
    if (!d->up || stat(path, &st) != 0)
        return false;
    *ret = st.st_uid;
    return true;
}

static void
look_daemons(struct looking *l)
{
    static const char *const programs[] = {"gmroute-deliver", "gmroute-token"};
    static const enum segment_kind kinds[] = {SEGMENT_QUOTA, SEGMENT_STATUS};

    for (size_t i = 0; i < 2; i++) {
        struct look_daemon *d = &l->daemon[i];

        look_daemon(l->look, kinds[i], d);
        l->h->daemon[i] = (struct daemon_fact){
            .program = programs[i],
            .up = d->up,
            .why = d->result == STATE_OK ? "no sign of life"
                   : d->why[0] != '\0'   ? keep(l, d->why)
                                         : state_result_text(d->result)};
    }
    l->h->has_agent = user_of(&l->daemon[0], &l->h->agent);
    l->h->has_skew = l->daemon[1].result == STATE_OK;
    if (l->h->has_skew)
        l->h->skew_s = (int64_t)l->daemon[1].info.stat[STATUS_SKEW_S];
}

static void
add_secret(struct looking *l, const char *account, const char *path,
           const struct look_daemon *reader)
{
    struct secret_fact *s = &l->h->secrets[l->h->n_secrets];

    if (path == NULL || path[0] != '/')
        return; /* a credential of systemd's */
    s->account = account;
    s->file = file_of(l, path);
    s->has_reader = user_of(reader, &s->reader);
    l->h->n_secrets++;
}

static void
look_secrets(struct looking *l)
{
    const struct policy *p = l->k->policy;

    l->h->secrets = arena_alloc(l->k->arena, p->n_accounts + p->n_clients + 1,
                                sizeof *l->h->secrets);
    if (l->h->secrets == NULL) {
        l->nomem = true;
        return;
    }
    for (size_t i = 0; i < p->n_accounts; i++)
        add_secret(l, p->accounts[i].name, p->accounts[i].secret_file,
                   &l->daemon[p->accounts[i].auth != AUTH_PASSWORD]);
    for (size_t i = 0; i < p->n_clients; i++)
        add_secret(l, p->clients[i].name, p->clients[i].client_secret_file,
                   &l->daemon[1]);
}

static bool
each_token(void *cookie, const struct token_status *t)
{
    enum { TOKENS_MAX = 1000 }; /* who has more, has seen enough */
    struct looking *l = cookie;
    bool person = t->state != TOKEN_OK && t->state != TOKEN_NONE;

    if (!person)
        return true;
    l->h->tokens[l->h->n_tokens++] =
        (struct token_fact){.identity = keep(l, t->identity),
                            .state = t->state,
                            .error = keep(l, t->error)};
    return l->h->n_tokens < TOKENS_MAX;
}

static void
look_tokens(struct looking *l)
{
    l->h->tokens = arena_alloc(l->k->arena, 1000, sizeof *l->h->tokens);
    if (l->h->tokens == NULL)
        l->nomem = true;
    else
        status_each(l->look->status, each_token, l);
}

/* ---- names ---- */

static void
add_host(struct looking *l, const char *what, struct slice name)
{
    struct doctor_host *h = l->h;

    for (size_t i = 0; i < h->n_hosts; i++)
        if (slice_eq(slice_of(h->hosts[i].name), name))
            return;
    h->hosts[h->n_hosts].what = what;
    h->hosts[h->n_hosts].name = arena_copy(l->k->arena, name);
    l->nomem = l->nomem || h->hosts[h->n_hosts].name == NULL;
    h->n_hosts += h->hosts[h->n_hosts].name != NULL;
}

/* The host of an https URL. */
static struct slice
url_host(const char *url)
{
    const char *at = strstr(url, "://");

    at = at != NULL ? at + 3 : url;
    return (struct slice){at, strcspn(at, ":/?#")};
}

/* All at once, with a deadline: a name server that is gone costs seconds for
 * each name.  What is still asked for then stays for the library's threads. */
static void
resolve(struct looking *l)
{
    static struct gaicb *ask;
    size_t n = l->h->n_hosts;
    struct gaicb **list = arena_alloc(l->k->arena, n + 1, sizeof *list);
    struct timespec left = {.tv_sec = RESOLVE_S};
    bool all = true;

    ask = calloc(n + 1, sizeof *ask);
    l->nomem = l->nomem || ask == NULL || list == NULL;
    if (l->nomem || n == 0) {
        free(ask);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        ask[i].ar_name = l->h->hosts[i].name;
        list[i] = &ask[i];
    }
    if (getaddrinfo_a(GAI_NOWAIT, list, (int)n, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const struct gaicb *one[] = {&ask[i]};
        int code;

        while ((code = gai_error(&ask[i])) == EAI_INPROGRESS &&
               gai_suspend(one, 1, &left) != EAI_AGAIN)
            ;
        if (code == EAI_INPROGRESS) { /* time is over, for the others too */
            left = (struct timespec){.tv_nsec = 1};
            l->h->hosts[i].err = "no answer";
            all = false;
        } else if (code != 0) {
            l->h->hosts[i].err = keep(l, gai_strerror(code));
        } else {
            freeaddrinfo(ask[i].ar_result);
        }
    }
    if (all)
        free(ask);
}

static void
look_hosts(struct looking *l)
{
    const struct policy *p = l->k->policy;

    l->h->hosts =
        arena_alloc(l->k->arena, 2 * p->n_accounts + 1, sizeof *l->h->hosts);
    if (l->h->hosts == NULL) {
        l->nomem = true;
        return;
    }
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];
        const struct smarthost *s = a->smarthost;

        add_host(l, "the smarthost",
                 slice_of(s->connect != NULL ? s->connect : s->host));
        if (a->auth == AUTH_REFRESH_TOKEN && a->client->connect == NULL)
            add_host(l, "the token endpoint", url_host(a->client->token_url));
        if (a->auth == AUTH_SERVICE_ACCOUNT && a->token_connect == NULL)
            add_host(l, "the token endpoint",
                     a->token_url != NULL ? url_host(a->token_url)
                                          : SLICE_LIT("oauth2.googleapis.com"));
    }
    resolve(l);
}

/* ---- certificates ---- */

static const char *
certificates_in(const char *path)
{
    char line[200];
    const char *err = "no certificate in it";
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return strerror(errno);
    while (err != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "-----BEGIN ", 11) == 0 &&
            strstr(line, "CERTIFICATE-----") != NULL)
            err = NULL;
    fclose(f);
    return err;
}

/* OpenSSL's own store: a file, or a directory of hashed names. */
static const char *
system_store(const char **ret_path)
{
    const char *file = getenv(X509_get_default_cert_file_env());
    const char *directory = getenv(X509_get_default_cert_dir_env());
    const char *err = "no certificate in it";
    struct dirent *d;
    DIR *dir;

    file = file != NULL ? file : X509_get_default_cert_file();
    directory = directory != NULL ? directory : X509_get_default_cert_dir();
    *ret_path = directory;
    if (certificates_in(file) == NULL)
        return NULL;
    dir = opendir(directory);
    if (dir == NULL)
        return strerror(errno);
    while (err != NULL && (d = readdir(dir)) != NULL)
        if (strlen(d->d_name) == 10 && strcmp(d->d_name + 8, ".0") == 0)
            err = NULL;
    closedir(dir);
    return err;
}

/* path NULL: the system's. */
static void
add_ca(struct looking *l, const char *what, const char *path)
{
    static const char system[] = "system";
    struct doctor_host *h = l->h;
    struct ca_fact *c = &h->cas[h->n_cas];
    const char *err;

    for (size_t i = 0; i < h->n_cas; i++)
        if (strcmp(h->cas[i].configured, path != NULL ? path : system) == 0)
            return;
    c->configured = path != NULL ? path : system;
    err = path != NULL ? certificates_in(path) : system_store(&path);
    c->what = what;
    c->path = path;
    c->err = err != NULL ? keep(l, err) : NULL;
    h->n_cas++;
}

static void
look_cas(struct looking *l)
{
    const struct policy *p = l->k->policy;

    l->h->cas =
        arena_alloc(l->k->arena, 3 * p->n_accounts + 1, sizeof *l->h->cas);
    if (l->h->cas == NULL) {
        l->nomem = true;
        return;
    }
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];

        add_ca(l, a->smarthost->name, a->smarthost->ca_file);
        if (a->auth == AUTH_REFRESH_TOKEN)
            add_ca(l, a->client->name, a->client->ca_file);
        if (a->auth == AUTH_SERVICE_ACCOUNT)
            add_ca(l, a->name, a->token_ca_file);
    }
}

/* ---- all of it ---- */

static void
look_directories(struct looking *l, const char *queue_directory)
{
    const struct policy *p = l->k->policy;
    char place[PATH_MAX - 20], path[PATH_MAX];

    /* What the agent must be able to write: where each daemon has a user of
     * its own, a directory of the agent's. */
    if (!place_of(p->state.directory, "ledger", place, sizeof place, NULL))
        snprintf(place, sizeof place, "%s", p->state.directory);
    l->h->state = file_of(l, place);
    l->h->runtime = file_of(l, p->state.runtime);
    snprintf(path, sizeof path, "%s/ledger.db", place);
    l->h->ledger = file_of(l, path);
    look_space("state.directory", p->state.directory, &l->h->space[0]);
    look_space("state.runtime", p->state.runtime, &l->h->space[1]);
    look_space("the MTA's queue", queue_directory, &l->h->space[2]);
}

const struct doctor_host *
doctor_look_host(const struct doctor_case *k, const struct look *look,
                 const char *queue_directory)
{
    struct looking l = {
        .k = k, .look = look, .h = arena_alloc(k->arena, 1, sizeof *l.h)};
    struct timex clock = {0};
    struct user user;
    bool is_known;

    if (l.h == NULL)
        return NULL;
    l.h->now_s = look->now_ms / 1000;
    /* Sendmail connects as root. */
    l.h->mta_user = k->mta != NULL ? mta_main(k->mta, "mail_owner") : "root";
    is_known = find_user(l.h->mta_user, &user);
    l.h->mta_user_exists = is_known;
    look_socket(&l, "milter", k->policy->milter.listen, is_known ? &user : NULL,
                &l.h->socket[0]);
    look_socket(&l, "agent", k->policy->deliver.listen, is_known ? &user : NULL,
                &l.h->socket[1]);
    look_labels(&l);
    look_daemons(&l);
    look_directories(&l, queue_directory);
    look_keys(&l);
    look_secrets(&l);
    look_tokens(&l);
    look_hosts(&l);
    look_cas(&l);
    l.h->clock_unsynchronised = adjtimex(&clock) == TIME_ERROR;
    return l.nomem ? NULL : l.h;
}
