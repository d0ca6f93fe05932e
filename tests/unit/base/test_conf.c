/* tests/unit/base/test_conf.c - mirrors milter/base/conf.c
 * SPDX-License-Identifier: Apache-2.0
 *
 * The compiler is replaced by one that the tests lead, so that it is known
 * exactly what it was given and when a policy was freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/conf.h"

static atomic_int n_alive; /* policies */

static struct policy *
new_policy(void)
{
    struct policy *p = calloc(1, sizeof *p);

    n_alive++;
    return p;
}

void
policy_free(struct policy *p)
{
    if (p == NULL)
        return;
    n_alive--;
    free(p);
}

static struct compiled {
    unsigned times;
    char text[100], file[100];
    size_t len;
    const char *more[4]; /* files to read on the way; NULL ends */
    char got[4][100];
    char err[4][100];
    size_t got_len[4];
    const char *pattern; /* to look for */
    char found[500];     /* with spaces between */
} compiled;

struct policy *
policy_compile(const char *text, size_t len, const char *file,
               const struct policy_files *files, struct diag *d)
{
    const char *got[4] = {NULL};
    const char *const *path = NULL;
    size_t n_paths = 0;

    compiled.times++;
    compiled.len = len;
    d->n = d->n_errors = d->dropped = 0;
    snprintf(compiled.text, sizeof compiled.text, "%.*s", (int)len, text);
    snprintf(compiled.file, sizeof compiled.file, "%s", file);
    for (unsigned i = 0; i < 4 && compiled.more[i] != NULL; i++)
        if (!files->read_file(files->cookie, compiled.more[i], &got[i],
                              &compiled.got_len[i], compiled.err[i], 100))
            diag_error(d, (struct loc){file, 7, 1}, "%s", compiled.err[i]);
    if (compiled.pattern != NULL &&
        !files->glob(files->cookie, compiled.pattern, &path, &n_paths,
                     compiled.err[0], 100))
        diag_error(d, (struct loc){file, 8, 1}, "%s", compiled.err[0]);
    /* All of them stay readable until the end. */
    for (size_t i = 0; i < n_paths; i++) {
        strcat(compiled.found, path[i]);
        strcat(compiled.found, " ");
    }
    for (unsigned i = 0; i < 4; i++)
        if (got[i] != NULL)
            snprintf(compiled.got[i], 100, "%.*s", (int)compiled.got_len[i],
                     got[i]);
    return d->n_errors == 0 ? new_policy() : NULL;
}

/* ---- loading ---- */

static char directory[] = "/tmp/gmroute-conf-XXXXXX";

static int
setup(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    return rmdir(directory);
}

static const char *
in_directory(const char *name)
{
    static char path[4][100];
    static unsigned next;
    char *ret = path[next++ % 4];

    snprintf(ret, 100, "%s/%s", directory, name);
    return ret;
}

static const char *
write_file(const char *name, const char *text)
{
    const char *path = in_directory(name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void
the_compiler_gets_the_file_and_its_includes(void **state)
{
    struct diag d;
    const char *main_file = write_file("a.yaml", "gmroute: 1\n");
    const char *list = write_file("list.txt", "ceo@example.com\n");
    const char *empty = write_file("empty", "");
    struct policy *p;

    (void)state;
    compiled = (struct compiled){.more = {list, empty, list}};
    p = conf_load(main_file, &d);
    assert_non_null(p);
    assert_int_equal(compiled.times, 1);
    assert_string_equal(compiled.text, "gmroute: 1\n");
    assert_string_equal(compiled.file, main_file);
    assert_string_equal(compiled.got[0], "ceo@example.com\n");
    assert_int_equal(compiled.got_len[1], 0);
    assert_string_equal(compiled.got[2], "ceo@example.com\n");
    policy_free(p);
    assert_int_equal(n_alive, 0);
    unlink(main_file);
    unlink(list);
    unlink(empty);
}

static void
an_unreadable_include_has_a_reason(void **state)
{
    struct diag d;
    const char *main_file = write_file("a.yaml", "x");

    (void)state;
    compiled = (struct compiled){
        .more = {in_directory("missing"), directory, main_file}};
    assert_null(conf_load(main_file, &d));
    assert_int_equal(d.n_errors, 2);
    assert_string_equal(compiled.err[0], "No such file or directory");
    assert_string_equal(compiled.err[1], "not a regular file");
    assert_string_equal(compiled.got[2], "x");
    unlink(main_file);
}

/* Sorted by octets; none and no directory are no error. */
static void
a_pattern_finds_paths(void **state)
{
    static const char *const names[] = {"b.yaml", "B.yaml", "10.yaml",
                                        ".hidden.yaml", "c.yml"};
    const char *main_file = write_file("a.conf", "x");
    const struct {
        const char *name, *pattern, *want;
    } rows[] = {
        {"some", "%s/*.yaml", "%s/10.yaml %s/B.yaml %s/b.yaml "},
        {"a set", "%s/[bc].y*", "%s/b.yaml %s/c.yml "},
        {"a quoted star is none", "%s/\\*.yaml", ""},
        {"none", "%s/*.txt", ""},
        {"no directory", "%s/none/*.yaml", ""},
        {"a file for a directory", "%s/c.yml/*.yaml", ""},
    };
    char pattern[100], want[300];
    struct diag d;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_file(names[i], "");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        snprintf(pattern, sizeof pattern, rows[i].pattern, directory);
        snprintf(want, sizeof want, rows[i].want, directory, directory,
                 directory);
        compiled = (struct compiled){.pattern = pattern};
        policy_free(conf_load(main_file, &d));
        assert_int_equal(d.n_errors, 0);
        assert_string_equal(compiled.found, want);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_directory(names[i]));
    unlink(main_file);
    assert_int_equal(n_alive, 0);
}

/* What a closed directory holds is not taken for nothing. */
static void
a_pattern_in_a_closed_directory_has_a_reason(void **state)
{
    const char *main_file = write_file("a.conf", "x");
    const char *closed = in_directory("closed");
    uid_t uid = geteuid();
    char pattern[200];
    struct diag d;

    (void)state;
    assert_int_equal(mkdir(closed, 0700), 0);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(chmod(main_file, 0644), 0);
    snprintf(pattern, sizeof pattern, "%s/*.yaml", closed);
    compiled = (struct compiled){.pattern = pattern};
    if (uid == 0) { /* whom no mode stops */
        assert_int_equal(seteuid(65534), 0);
    } else {
        assert_int_equal(chmod(closed, 0), 0);
    }
    assert_null(conf_load(main_file, &d));
    if (uid == 0) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(d.n_errors, 1);
    assert_string_equal(d.item[0].text, "Permission denied");
    rmdir(closed);
    unlink(main_file);
}

static void
an_unreadable_file_is_an_error_at_line_0(void **state)
{
    const char *fifo = in_directory("fifo"), *huge = in_directory("huge");
    const struct {
        const char *path, *why;
    } rows[] = {
        {in_directory("missing"), "cannot read it: No such file or directory"},
        {directory, "cannot read it: not a regular file"},
        {"/dev/zero", "cannot read it: not a regular file"},
        {fifo, "cannot read it: not a regular file"},
        {huge, "cannot read it: larger than 64 MiB"},
        {"", "cannot read it: No such file or directory"},
    };
    int fd = open(huge, O_WRONLY | O_CREAT | O_EXCL, 0600);

    (void)state;
    assert_int_equal(ftruncate(fd, (64 << 20) + 1), 0);
    close(fd);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    compiled = (struct compiled){0};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct diag d = {.n = 3, .n_errors = 5, .dropped = 9};

        print_message("  %s\n", rows[i].path);
        assert_null(conf_load(rows[i].path, &d));
        assert_int_equal(d.n, 1);
        assert_int_equal(d.n_errors, 1);
        assert_int_equal(d.dropped, 0);
        assert_int_equal(d.item[0].level, DIAG_ERROR);
        assert_string_equal(d.item[0].at.file, rows[i].path);
        assert_int_equal(d.item[0].at.line, 0);
        assert_string_equal(d.item[0].text, rows[i].why);
    }
    assert_int_equal(compiled.times, 0);
    unlink(huge);
    unlink(fifo);
}

static void
the_largest_file_is_read(void **state)
{
    const char *path = in_directory("large");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    struct diag d;
    struct policy *p;

    (void)state;
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    close(fd);
    compiled = (struct compiled){0};
    p = conf_load(path, &d);
    assert_non_null(p);
    assert_int_equal(compiled.len, 64 << 20);
    policy_free(p);
    unlink(path);
}

/* A file that says it is empty and is not. */
static void
a_file_without_a_size_is_read(void **state)
{
    struct diag d;
    struct policy *p;

    (void)state;
    compiled = (struct compiled){0};
    p = conf_load("/proc/self/mountinfo", &d);
    assert_non_null(p);
    assert_true(compiled.len > 0);
    policy_free(p);
}

/* ---- snapshots ---- */

static void
a_snapshot_lives_as_long_as_its_last_reference(void **state)
{
    struct policy *first = new_policy(), *second = new_policy();
    struct conf_holder *h = conf_holder_new(first);
    struct conf *a = conf_ref(h), *b = conf_ref_again(a), *c;

    (void)state;
    assert_ptr_equal(a->policy, first);
    assert_int_equal(a->serial, 1);
    assert_true(conf_publish(h, second));
    c = conf_ref(h);
    assert_ptr_equal(c->policy, second);
    assert_int_equal(c->serial, 2);
    assert_int_equal(n_alive, 2);
    conf_unref(a);
    assert_int_equal(n_alive, 2);
    assert_ptr_equal(b->policy, first);
    conf_unref(b);
    assert_int_equal(n_alive, 1);
    conf_holder_free(h); /* references that are out stay good */
    assert_int_equal(n_alive, 1);
    assert_ptr_equal(c->policy, second);
    conf_unref(c);
    assert_int_equal(n_alive, 0);
    conf_unref(NULL);
    conf_holder_free(NULL);
}

enum { READERS = 3, ROUNDS = 5000 };

static atomic_bool publishing;

static void *
read_often(void *cookie)
{
    unsigned last = 0;

    while (atomic_load(&publishing)) {
        struct conf *c = conf_ref(cookie), *again = conf_ref_again(c);

        if (c->serial < last || c->policy->needs != c->serial)
            return NULL; /* went back, or another one's policy */
        last = c->serial;
        conf_unref(c);
        conf_unref(again);
    }
    return cookie;
}

static void
threads_see_whole_snapshots(void **state)
{
    struct policy *p = new_policy();
    struct conf_holder *h;
    pthread_t thread[READERS];

    (void)state;
    p->needs = 1;
    h = conf_holder_new(p);
    atomic_store(&publishing, true);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_often, h), 0);
    for (unsigned i = 2; i < ROUNDS; i++) {
        p = new_policy();
        p->needs = i;
        assert_true(conf_publish(h, p));
    }
    atomic_store(&publishing, false);
    for (unsigned i = 0; i < READERS; i++) {
        void *good;

        pthread_join(thread[i], &good);
        assert_ptr_equal(good, h);
    }
    assert_int_equal(n_alive, 1);
    conf_holder_free(h);
    assert_int_equal(n_alive, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_compiler_gets_the_file_and_its_includes),
        cmocka_unit_test(an_unreadable_include_has_a_reason),
        cmocka_unit_test(a_pattern_finds_paths),
        cmocka_unit_test(a_pattern_in_a_closed_directory_has_a_reason),
        cmocka_unit_test(an_unreadable_file_is_an_error_at_line_0),
        cmocka_unit_test(the_largest_file_is_read),
        cmocka_unit_test(a_file_without_a_size_is_read),
        cmocka_unit_test(a_snapshot_lives_as_long_as_its_last_reference),
        cmocka_unit_test(threads_see_whole_snapshots),
    };

    return cmocka_run_group_tests_name("base/conf", tests, setup, teardown);
}
