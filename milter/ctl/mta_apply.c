/* milter/ctl/mta_apply.c - gmroutectl mta-config postfix --apply: makes
 * Postfix have the lines of mta_plan.h, or takes them back.
 * SPDX-License-Identifier: Apache-2.0
 *
 * postconf edits a copy of main.cf and master.cf in a directory of our own;
 * what comes out is put in place whole (mta_files.h).  So a postconf that
 * fails, or our own end in the middle, leaves everything as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "milter/ctl/mta_config.h"
#include "milter/ctl/mta_files.h"
#include "milter/ctl/mta_plan.h"
#include "milter/ctl/postconf.h"

enum { FILE_TABLE, FILE_CLEANER, FILE_MASTER, FILE_MAIN };

struct apply {
    const struct ctl *ctl;
    const struct policy *policy;
    struct arena *arena;
    struct mta_settings *live;
    const char *directory, *queue_directory; /* of these */
    struct mta_plan plan;
    char stage[300]; /* our copy; "" = there is none */
    struct mta_file before[MTA_FILES], after[MTA_FILES];
    json_t *changes; /* sentences */
    char backup[400];
    char err[2000];
};

/* ---- editing the copy ---- */

static void __attribute__((format(printf, 2, 3)))
note(struct apply *a, const char *fmt, ...)
{
    char text[1500];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(a->changes, json_string(text));
}

static bool
nomem(struct apply *a)
{
    snprintf(a->err, sizeof a->err, "out of memory");
    return false;
}

/* Postfix's programs wait for seconds until a main.cf that was just written
 * may be taken for finished.  Ours is. */
static void
look_finished(const struct apply *a)
{
    const struct timespec then = {.tv_sec = time(NULL) - 3600};
    const struct timespec times[] = {then, then};
    char path[400];

    snprintf(path, sizeof path, "%s/main.cf", a->stage);
    utimensat(AT_FDCWD, path, times, 0); /* else it only takes longer */
}

static bool
edit(struct apply *a, const char *option, const char *what)
{
    const char *words[] = {option, what, NULL}, *ignored;
    bool good;

    if (what == NULL)
        return nomem(a);
    good = postconf_words(a->arena, a->stage, words, &ignored, a->err,
                          sizeof a->err);
    look_finished(a);
    return good;
}

static bool
set_override(struct apply *a, const struct mta_settings *s, const char *key,
             const char *name, const char *value)
{
    const char *now = s != NULL ? mta_override(s, key, name) : NULL;

    if (now != NULL && strcmp(now, value) == 0)
        return true;
    note(a, "master.cf: %s: -o %s=%s", key, name, value);
    return edit(a, "-P", arena_printf(a->arena, "%s/%s=%s", key, name, value));
}

/* A service of ours that is there keeps what else somebody gave it. */
static bool
set_fields(struct apply *a, const struct mta_service *v,
           const struct plan_service *want)
{
    if (v->is_chrooted) {
        note(a, "master.cf: %s: chroot n", v->key);
        if (!edit(a, "-F", arena_printf(a->arena, "%s/chroot=n", v->key)))
            return false;
    }
    if (want->maxproc > 0 && v->maxproc < want->maxproc &&
        (!v->has_maxproc || v->maxproc > 0)) {
        note(a, "master.cf: %s: at most %u processes", v->key, want->maxproc);
        if (!edit(a, "-F",
                  arena_printf(a->arena, "%s/process_limit=%u", v->key,
                               want->maxproc)))
            return false;
    }
    return true;
}

static bool
add_service(struct apply *a, const char *key, const struct plan_service *want)
{
    note(a, "master.cf: service %s", key);
    return edit(a, "-M",
                arena_printf(a->arena, "%s=%s unix %s %s n - %u %s", key,
                             want->name, want->private_, want->unprivileged,
                             want->maxproc, want->command));
}

static bool
edit_services(struct apply *a)
{
    struct mta_settings *s = postconf_read(a->stage, a->err, sizeof a->err);
    bool good = s != NULL;

    for (size_t i = 0; i < PLAN_SERVICES && good; i++) {
        const struct plan_service *want = &a->plan.service[i];
        const char *key = arena_printf(a->arena, "%s/unix", want->name);
        const struct mta_service *v = key != NULL ? mta_service(s, key) : NULL;

        /* With another program its -o are another's, too. */
        bool fresh = v == NULL ||
                     (want->is_ours && strcmp(v->command, want->command) != 0);

        good = key != NULL || nomem(a);
        if (good && fresh)
            good = add_service(a, key, want);
        else if (good && want->is_ours)
            good = set_fields(a, v, want);
        for (size_t k = 0;
             k < PLAN_OVERRIDES && want->override[k].name != NULL && good; k++)
            good =
                set_override(a, fresh ? NULL : s, key, want->override[k].name,
                             want->override[k].value);
    }
    postconf_free(s);
    return good;
}

/* Is this entry of a list the same thing, perhaps spelled in another way: the
 * table as another type, the socket by another path? */
static bool
is_same(const struct apply *a, const struct plan_setting *want,
        struct slice entry)
{
    const char *socket = mta_socket_path(a->policy->milter.listen);
    struct slice tail = {0};
    size_t queue = strlen(a->queue_directory);

    if (slice_eq(entry, slice_of(want->value)))
        return true;
    if (strcmp(want->name, "transport_maps") == 0) {
        tail = slice_of(strchr(want->value, ':'));
    } else if (socket != NULL && slice_starts(entry, "unix:")) {
        tail = slice_of(socket);
        if (strncmp(socket, a->queue_directory, queue) == 0 &&
            slice_eq(slice_from(entry, 5), slice_of(socket + queue)))
            return true; /* as a chrooted smtpd sees it */
        return slice_eq(slice_from(entry, 5), tail);
    }
    return tail.len > 0 && entry.len > tail.len &&
           slice_eq(slice_from(entry, entry.len - tail.len), tail);
}

/* With options of its own: { unix:/path, connect_timeout=5s }. */
static bool
is_braced(const struct apply *a, const struct plan_setting *want,
          struct slice entry)
{
    struct slice first;

    if (entry.len < 2 || entry.at[0] != '{')
        return false;
    entry = (struct slice){entry.at + 1, entry.len - 2};
    return mta_list_next(&entry, &first) && is_same(a, want, first);
}

/* The list with our entry at its end.  NULL = out of memory. */
static const char *
with_ours(struct apply *a, const struct plan_setting *want, const char *raw)
{
    struct slice rest = slice_of(raw), entry, ours = slice_of(want->value);
    const char *ret = "";

    while (ret != NULL && mta_list_next(&rest, &entry)) {
        if (is_braced(a, want, entry))
            ours = entry;
        else if (!is_same(a, want, entry))
            ret = arena_printf(a->arena, "%s%s%.*s", ret,
                               ret[0] != '\0' ? ", " : "", SLICE_FMT(entry));
    }
    if (ret == NULL)
        return NULL;
    return arena_printf(a->arena, "%s%s%.*s", ret, ret[0] != '\0' ? ", " : "",
                        SLICE_FMT(ours));
}

/* Is ours already the last of the list, or the only table of that name? */
static bool
is_there(const struct apply *a, const struct plan_setting *want,
         const char *expanded)
{
    struct slice rest = slice_of(expanded), entry;
    bool is_table = strcmp(want->name, "transport_maps") == 0, there = false;

    while (mta_list_next(&rest, &entry)) {
        if (slice_eq(entry, slice_of(want->value)) || is_braced(a, want, entry))
            there = true;
        else if (is_same(a, want, entry))
            return false;
        else if (!is_table)
            there = false;
    }
    return there;
}

static bool
read_value(struct apply *a, const char *option, const char *name,
           const char **ret)
{
    const char *words[] = {option, name, NULL};

    return postconf_words(a->arena, a->stage, words, ret, a->err,
                          sizeof a->err);
}

static bool
edit_setting(struct apply *a, const struct plan_setting *want)
{
    const char *set, *raw, *expanded, *value = want->value;

    if (!read_value(a, "-hn", want->name, &set) ||
        !read_value(a, "-h", want->name, &raw) ||
        !read_value(a, "-hx", want->name, &expanded))
        return false;
    /* What is so by default alone may be otherwise in the next Postfix. */
    if (want->is_list ? is_there(a, want, expanded) : strcmp(set, value) == 0)
        return true;
    if (want->is_list)
        value = with_ours(a, want, raw);
    if (value == NULL)
        return nomem(a);
    note(a, "main.cf: %s = %s", want->name, value);
    return edit(a, "-e", arena_printf(a->arena, "%s=%s", want->name, value));
}

/* ---- the whole ---- */

static bool
stage(struct apply *a)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(a->stage, sizeof a->stage, "%s/gmroutectl.XXXXXX",
             tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    if (mkdtemp(a->stage) == NULL) {
        snprintf(a->err, sizeof a->err, "%s: %s", a->stage, strerror(errno));
        a->stage[0] = '\0';
        return false;
    }
    for (size_t i = 0; i < MTA_FILES; i++)
        if (!mta_file_read(a->directory, mta_file_names[i], &a->before[i],
                           a->err, sizeof a->err))
            return false;
    return mta_file_write(a->stage, "main.cf", &a->before[FILE_MAIN], false,
                          a->err, sizeof a->err) &&
           mta_file_write(a->stage, "master.cf", &a->before[FILE_MASTER], false,
                          a->err, sizeof a->err);
}

static void
unstage(struct apply *a)
{
    char path[400];

    for (size_t i = FILE_MASTER; i <= FILE_MAIN && a->stage[0] != '\0'; i++) {
        snprintf(path, sizeof path, "%s/%s", a->stage, mta_file_names[i]);
        unlink(path);
    }
    if (a->stage[0] != '\0')
        rmdir(a->stage);
}

/* A table as the plan has it, with the mode of the one before. */
static bool
make_table(struct apply *a, size_t i, const struct plan_file *want)
{
    const struct mta_file *before = &a->before[i];

    a->after[i] = *before;
    if (!before->exists)
        a->after[i] = (struct mta_file){.exists = true, .mode = 0644};
    a->after[i].text = strdup(want->text);
    a->after[i].len = strlen(want->text);
    if (a->after[i].text == NULL)
        return nomem(a);
    if (!mta_file_same(before, &a->after[i]))
        note(a, "%s: %s", want->name, before->exists ? "replaced" : "written");
    return true;
}

/* The copy as postconf has left it, with owner and mode of the original. */
static bool
take_edited(struct apply *a, size_t i)
{
    if (!mta_file_read(a->stage, mta_file_names[i], &a->after[i], a->err,
                       sizeof a->err))
        return false;
    a->after[i].mode = a->before[i].mode;
    a->after[i].uid = a->before[i].uid;
    a->after[i].gid = a->before[i].gid;
    return true;
}

static bool
build(struct apply *a)
{
    if (!mta_plan(a->policy, a->directory, a->queue_directory, a->arena,
                  &a->plan))
        return nomem(a);
    if (!stage(a))
        return false;
    look_finished(a);
    /* Services first: only then does Postfix know gmroute_... of main.cf. */
    if (!edit_services(a))
        return false;
    for (size_t i = 0; i < PLAN_SETTINGS; i++)
        if (!edit_setting(a, &a->plan.setting[i]))
            return false;
    return make_table(a, FILE_TABLE, &a->plan.file[0]) &&
           make_table(a, FILE_CLEANER, &a->plan.file[1]) &&
           take_edited(a, FILE_MASTER) && take_edited(a, FILE_MAIN);
}

static bool
undo(struct apply *a)
{
    char from[sizeof a->backup + 10];

    if (!mta_backup_newest(a->directory, a->backup, sizeof a->backup)) {
        snprintf(a->err, sizeof a->err,
                 "%s: there is no backup of gmroutectl mta-config --apply",
                 a->directory);
        return false;
    }
    for (size_t i = 0; i < MTA_FILES; i++) {
        const char *name = mta_file_names[i];
        struct mta_file made;
        bool good, ours;

        snprintf(from, sizeof from, "%s/after", a->backup);
        good = mta_file_read(from, name, &made, a->err, sizeof a->err);
        snprintf(from, sizeof from, "%s/before", a->backup);
        good = good &&
               mta_file_read(from, name, &a->after[i], a->err, sizeof a->err) &&
               mta_file_read(a->directory, name, &a->before[i], a->err,
                             sizeof a->err);
        /* A run that was killed has left some as they were. */
        ours = good && (mta_file_same(&a->before[i], &made) ||
                        mta_file_same(&a->before[i], &a->after[i]));
        mta_file_free(&made);
        if (good && !ours)
            snprintf(a->err, sizeof a->err,
                     "%s/%s has changed since; nothing was done.  Look at "
                     "the changes with: diff -u %s/after/%s %s/%s",
                     a->directory, name, a->backup, name, a->directory, name);
        if (!ours)
            return false;
        if (!mta_file_same(&a->before[i], &a->after[i]))
            note(a, "%s: %s", name,
                 a->after[i].exists ? "as it was" : "removed");
    }
    return true;
}

static void
tell(struct apply *a, enum mta_apply what)
{
    size_t n = json_array_size(a->changes);
    const char *reload = a->live->is_default
                             ? "postfix reload"
                             : arena_printf(a->arena, "postfix -c %s reload",
                                            mta_quote(a->arena, a->directory));

    if (a->ctl->json) {
        ctl_print_json(json_pack(
            "{s:s, s:O, s:b, s:o, s:s}", "directory", a->directory, "changes",
            a->changes, "done", (int)(n > 0 && what != MTA_DRY_RUN), "backup",
            a->backup[0] != '\0' ? json_string(a->backup) : json_null(),
            "reload", reload != NULL ? reload : ""));
        return;
    }
    for (size_t i = 0; i < n; i++)
        puts(json_string_value(json_array_get(a->changes, i)));
    if (n == 0)
        printf("%s: nothing to change\n", a->directory);
    else if (what == MTA_DRY_RUN)
        printf("%s: nothing was changed; this is what --apply would do\n",
               a->directory);
    else if (what == MTA_APPLY)
        printf("backup: %s (--undo brings it back)\nnow run: %s\n", a->backup,
               reload != NULL ? reload : "postfix reload");
    else
        printf("%s is as it was\nnow run: %s\n", a->directory,
               reload != NULL ? reload : "postfix reload");
}

static bool
work(struct apply *a, const char *directory, enum mta_apply what)
{
    bool good;
    int lock;

    a->live = postconf_read(directory, a->err, sizeof a->err);
    if (a->live == NULL)
        return false;
    a->directory = a->live->directory;
    a->queue_directory = mta_main(a->live, "queue_directory");
    lock = mta_files_lock(a->directory, a->err, sizeof a->err);
    if (lock < 0)
        return false;
    good = what == MTA_UNDO ? undo(a) : build(a);
    if (good && what == MTA_UNDO)
        good = mta_files_replace(a->directory, a->before, a->after, NULL, 0,
                                 a->err, sizeof a->err) &&
               mta_backup_done(a->backup, a->err, sizeof a->err);
    else if (good && what == MTA_APPLY && json_array_size(a->changes) > 0)
        good = mta_files_replace(a->directory, a->before, a->after, a->backup,
                                 sizeof a->backup, a->err, sizeof a->err);
    close(lock);
    return good;
}

int
mta_config_apply(const struct ctl *c, const struct policy *p,
                 const char *directory, enum mta_apply what)
{
    struct apply *a = calloc(1, sizeof *a);
    bool good = a != NULL;

    if (good) {
        a->ctl = c;
        a->policy = p;
        a->arena = arena_new();
        a->changes = json_array();
        snprintf(a->err, sizeof a->err, "out of memory");
        good = a->arena != NULL && work(a, directory, what);
        if (good)
            tell(a, what);
        else
            fprintf(stderr, "gmroutectl: %s\n", a->err);
        unstage(a);
        for (size_t i = 0; i < MTA_FILES; i++) {
            mta_file_free(&a->before[i]);
            mta_file_free(&a->after[i]);
        }
        json_decref(a->changes);
        postconf_free(a->live);
        arena_free(a->arena);
        free(a);
    } else {
        fputs("gmroutectl: out of memory\n", stderr);
    }
    return good ? CTL_GOOD : CTL_USAGE;
}
