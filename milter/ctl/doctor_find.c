/* milter/ctl/doctor_find.c - runs the checks, and takes in what they find.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/doctor.h"

/* ---- findings ---- */

static const char *
format(struct findings *f, const char *fmt, va_list ap)
{
    char *text = NULL;
    const char *ret = NULL;

    if (vasprintf(&text, fmt, ap) >= 0) {
        ret = arena_copy(f->arena, slice_of(text));
        free(text);
    }
    f->nomem = f->nomem || ret == NULL;
    return ret != NULL ? ret : "";
}

void
found(struct findings *f, const char *fmt, ...)
{
    va_list ap;

    if (f->n == f->room) {
        size_t room = f->room * 2 + 16;
        struct finding *more = arena_alloc(f->arena, room, sizeof *more);

        if (more == NULL) {
            f->nomem = true;
            return;
        }
        if (f->n > 0)
            memcpy(more, f->at, f->n * sizeof *more);
        f->at = more;
        f->room = room;
    }
    va_start(ap, fmt);
    f->at[f->n++] = (struct finding){
        .check = f->check, .what = format(f, fmt, ap), .remedy = ""};
    va_end(ap);
}

static void
add_line(struct findings *f, const char *line, bool is_command)
{
    struct finding *x = f->n > 0 ? &f->at[f->n - 1] : NULL;
    const char *text;

    if (x == NULL)
        return; /* out of memory, and said so */
    x->is_command = is_command && (x->remedy[0] == '\0' || x->is_command);
    text = arena_printf(f->arena, "%s%s%s", x->remedy,
                        x->remedy[0] != '\0' ? "\n" : "", line);
    if (text != NULL)
        x->remedy = text;
    f->nomem = f->nomem || text == NULL;
}

void
mend(struct findings *f, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_line(f, format(f, fmt, ap), true);
    va_end(ap);
}

void
advise(struct findings *f, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_line(f, format(f, fmt, ap), false);
    va_end(ap);
}

/* ---- commands ---- */

/* " -c DIRECTORY", where Postfix would look at another one. */
static const char *
where(const struct doctor_case *k)
{
    const char *ret = "";

    if (!k->mta->is_default)
        ret = arena_printf(k->arena, " -c %s",
                           mta_quote(k->arena, k->mta->directory));
    return ret != NULL ? ret : "";
}

static void
mend_postconf(const struct doctor_case *k, struct findings *f,
              const char *option, const char *name, const char *value)
{
    const char *word = arena_printf(k->arena, "%s=%s", name, value);

    if (word == NULL)
        f->nomem = true;
    else
        mend(f, "postconf%s %s %s", where(k), option,
             mta_quote(k->arena, word));
}

void
mend_main(const struct doctor_case *k, struct findings *f, const char *name,
          const char *value)
{
    mend_postconf(k, f, "-e", name, value);
}

void
mend_override(const struct doctor_case *k, struct findings *f,
              const char *service, const char *name, const char *value)
{
    const char *key = arena_printf(k->arena, "%s/%s", service, name);
    struct slice rest = slice_of(value), word;
    const char *list = "";

    /* postconf takes no white space there; a list does without. */
    while (list != NULL && mta_list_next(&rest, &word))
        list = arena_printf(k->arena, "%s%s%.*s", list,
                            list[0] != '\0' ? "," : "", SLICE_FMT(word));
    if (list == NULL || key == NULL)
        f->nomem = true;
    else
        mend_postconf(k, f, "-P", key, list);
}

void
mend_field(const struct doctor_case *k, struct findings *f, const char *service,
           const char *field, const char *value)
{
    const char *key = arena_printf(k->arena, "%s/%s", service, field);

    mend_postconf(k, f, "-F", key != NULL ? key : "", value);
}

void
mend_apply(const struct doctor_case *k, struct findings *f)
{
    const char *file = mta_quote(k->arena, k->config);

    if (k->mta->is_default)
        mend(f, "gmroutectl -c %s mta-config postfix --apply", file);
    else
        mend(f,
             "gmroutectl -c %s mta-config postfix --apply --config-directory "
             "%s",
             file, mta_quote(k->arena, k->mta->directory));
}

/* ---- the run ---- */

static void
examine(const struct doctor_case *k, const struct doctor_check *table,
        struct findings *f)
{
    for (; table->name != NULL; table++) {
        f->check = table;
        table->look(k, f);
    }
}

/* What is wrong before what could be better; else in the tables' order. */
static void
sort(struct findings *f)
{
    for (size_t i = 1; i < f->n; i++)
        for (size_t j = i;
             j > 0 && f->at[j].check->severity < f->at[j - 1].check->severity;
             j--) {
            struct finding keep = f->at[j];

            f->at[j] = f->at[j - 1];
            f->at[j - 1] = keep;
        }
}

bool
doctor_examine(const struct doctor_case *k, struct findings *ret)
{
    *ret = (struct findings){.arena = k->arena};
    if (k->mta != NULL) {
        examine(k, doctor_filter_checks, ret);
        examine(k, doctor_main_checks, ret);
        examine(k, doctor_master_checks, ret);
        examine(k, doctor_table_checks, ret);
    }
    if (k->sendmail != NULL)
        examine(k, doctor_sendmail_checks, ret);
    if (k->host != NULL)
        examine(k, doctor_host_checks, ret);
    sort(ret);
    return !ret->nomem;
}
