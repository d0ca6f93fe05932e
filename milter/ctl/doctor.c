/* milter/ctl/doctor.c - gmroutectl doctor: what is wrong with the MTA's
 * settings and this host, why it matters, and what mends it.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "milter/ctl/look.h"

enum { CF_MAX = 4 << 20 /* octets of a sendmail.cf */ };

struct options {
    const char *directory; /* Postfix's; NULL = its own */
    const char *cf;        /* sendmail.cf; NULL = Postfix is meant */
    bool mta_only;
};

static const char synopsis[] = "[--config-directory DIR | --sendmail-cf FILE] "
                               "[--mta-only] [--json]";

static const char *const severities[] = {"error", "warning", "note"};

static int
read_options(int argc, char **argv, struct options *ret)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--config-directory") == 0 && i + 1 < argc)
            ret->directory = argv[++i];
        else if (strcmp(argv[i], "--sendmail-cf") == 0 && i + 1 < argc)
            ret->cf = argv[++i];
        else if (strcmp(argv[i], "--mta-only") == 0)
            ret->mta_only = true;
        else
            return ctl_usage("doctor", synopsis, "unknown word %s", argv[i]);
    }
    if (ret->cf != NULL && ret->directory != NULL)
        return ctl_usage("doctor", synopsis, "which of the two MTAs?");
    return CTL_GOOD;
}

/* ---- looking ---- */

static bool
fault(const char *what)
{
    fprintf(stderr, "gmroutectl: %s\n", what);
    return false;
}

static char *
read_text(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = f != NULL ? calloc(1, CF_MAX + 1) : NULL;
    size_t n = text != NULL ? fread(text, 1, CF_MAX, f) : 0;

    if (text == NULL || n == 0 || ferror(f) != 0) {
        fprintf(stderr, "gmroutectl: %s: %s\n", path,
                errno != 0 ? strerror(errno) : "empty");
        free(text);
        text = NULL;
    }
    if (f != NULL)
        fclose(f);
    return text;
}

/* The program that takes the tags off Sendmail's reports. */
static void
look_report_program(struct doctor_case *k)
{
    const char *fields = sendmail_mailer(k->sendmail, "gmclean");

    if (fields == NULL)
        return;
    k->report_program = sendmail_field(k->sendmail, fields, 'P');
    if (k->report_program != NULL && access(k->report_program, X_OK) != 0)
        k->report_error = errno;
}

static bool
look_sendmail(struct doctor_case *k, const char *path)
{
    struct sendmail_settings *s = arena_alloc(k->arena, 1, sizeof *s);
    char *text = read_text(path);
    bool good = text != NULL;

    if (good && (s == NULL || !sendmail_parse(k->arena, path, text, s)))
        good = fault("out of memory");
    free(text);
    k->sendmail = s;
    if (good)
        look_report_program(k);
    if (good && !doctor_look_class_w(k))
        good = fault("out of memory");
    return good;
}

static bool
look_mta(struct doctor_case *k, const struct options *o)
{
    char err[400];

    if (o->cf != NULL)
        return look_sendmail(k, o->cf);
    k->mta = postconf_read(o->directory, err, sizeof err);
    if (k->mta == NULL)
        return fault(err);
    return doctor_look_maps(k) || fault("out of memory");
}

static const char *
queue_directory(const struct doctor_case *k)
{
    return k->mta != NULL ? mta_main(k->mta, "queue_directory")
                          : sendmail_option(k->sendmail, "QueueDirectory");
}

/* ---- telling ---- */

static json_t *
json_remedy(const struct finding *x)
{
    json_t *lines = json_array();
    const char *text = x->remedy;

    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        json_array_append_new(lines, json_stringn(text, len));
        text += len + (text[len] != '\0');
    }
    return lines;
}

static void
print_json(const struct doctor_case *k, const struct findings *f, bool good)
{
    json_t *list = json_array();

    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->at[i];

        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:s, s:o, s:b}", "check", x->check->name,
                      "severity", severities[x->check->severity], "what",
                      x->what, "why", x->check->why, "remedy", json_remedy(x),
                      "is_command", (int)x->is_command));
    }
    ctl_print_json(
        json_pack("{s:b, s:s, s:s, s:b, s:o}", "good", (int)good, "mta",
                  k->mta != NULL ? "postfix" : "sendmail", "config",
                  k->mta != NULL ? k->mta->directory : k->sendmail->path,
                  "host", (int)(k->host != NULL), "findings", list));
}

static void
print_text(const struct doctor_case *k, const struct findings *f)
{
    size_t count[3] = {0};

    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->at[i];
        const char *line = x->remedy;

        count[x->check->severity]++;
        printf("%s: %s [%s]\n  why   %s\n", severities[x->check->severity],
               x->what, x->check->name, x->check->why);
        for (const char *lead = x->is_command ? "run" : "do"; *line != '\0';
             lead = "") {
            size_t len = strcspn(line, "\n");

            printf("  %-5s %.*s\n", lead, (int)len, line);
            line += len + (line[len] != '\0');
        }
        putchar('\n');
    }
    printf("%s: %zu errors, %zu warnings, %zu notes\n",
           k->mta != NULL ? k->mta->directory : k->sendmail->path, count[0],
           count[1], count[2]);
    if (k->mta != NULL && count[0] + count[1] > 0)
        printf("after changes in main.cf or master.cf: postfix%s%s reload\n",
               k->mta->is_default ? "" : " -c ",
               k->mta->is_default ? "" : k->mta->directory);
}

static int
tell(const struct ctl *c, const struct doctor_case *k, const struct findings *f)
{
    bool good = true;

    for (size_t i = 0; i < f->n; i++)
        good = good && f->at[i].check->severity == SEVERITY_NOTE;
    if (c->json)
        print_json(k, f, good);
    else
        print_text(k, f);
    return good ? CTL_GOOD : CTL_NO;
}

static int
examine(const struct ctl *c, const struct look *look, const struct options *o,
        struct doctor_case *k)
{
    struct findings f;

    if (!look_mta(k, o))
        return CTL_USAGE;
    if (!o->mta_only) {
        k->host = doctor_look_host(k, look, queue_directory(k));
    }
    if ((o->mta_only || k->host != NULL) && doctor_examine(k, &f))
        return tell(c, k, &f);
    fault("out of memory");
    return CTL_USAGE;
}

int
ctl_doctor(struct ctl *c, int argc, char **argv)
{
    struct options o = {0};
    struct doctor_case k = {.config = c->file, .arena = arena_new()};
    struct look look;
    int status = read_options(argc, argv, &o);

    if (status != CTL_GOOD || k.arena == NULL) {
        arena_free(k.arena);
        return CTL_USAGE;
    }
    status = CTL_USAGE;
    if (look_open(&look, c)) {
        k.policy = look.policy;
        status = examine(c, &look, &o, &k);
    }
    postconf_free((struct mta_settings *)k.mta);
    arena_free(k.arena);
    look_close(&look);
    return status;
}
