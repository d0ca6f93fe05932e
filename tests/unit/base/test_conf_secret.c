/* tests/unit/base/test_conf_secret.c - mirrors milter/base/conf_secret.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/conf.h"

static char directory[] = "/tmp/gmroute-secret-XXXXXX";
static char path[100], other[100];

static int
setup(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/x.pw", directory);
    snprintf(other, sizeof other, "%s/link", directory);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(directory);
}

static void
write_secret(const char *data, size_t len, unsigned mode)
{
    FILE *f;

    unlink(path);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

enum { MAX = 20 };

static const struct row {
    const char *name, *data;
    size_t len; /* 0 = strlen */
    unsigned mode;
    const char *want;  /* NULL = refused */
    const char *error; /* with FILE for the path */
} rows[] = {
    {"plain", "abcd efgh", 0, 0600, "abcd efgh", NULL},
    {"read-only", "abcd", 0, 0400, "abcd", NULL},
    {"white space at the ends", " \r\n\tab cd \n\n", 0, 0600, "ab cd", NULL},
    {"lines in the middle stay", "{\n\"a\"\n}\n", 0, 0600, "{\n\"a\"\n}", NULL},
    {"the longest", "01234567890123456789", 0, 0600, "01234567890123456789",
     NULL},
    {"not ASCII", "p\xc3\xa4ss", 0, 0600, "p\xc3\xa4ss", NULL},
    {"too long", "01234567890123456789\n", 0, 0600, NULL,
     "FILE: 21 octets, at most 20 are expected"},
    {"empty", "", 0, 0600, NULL, "FILE: empty; put the secret in it"},
    {"only white space", " \n\t\r\n", 0, 0600, NULL,
     "FILE: empty; put the secret in it"},
    {"NUL", "ab\0cd", 5, 0600, NULL,
     "FILE: a NUL octet in it; want a text file"},
    {"group may read", "abcd", 0, 0640, NULL,
     "FILE: mode 0640, want 0600 or 0400; \"chmod 0600 FILE\" helps"},
    {"all may read", "abcd", 0, 0644, NULL,
     "FILE: mode 0644, want 0600 or 0400; \"chmod 0600 FILE\" helps"},
    {"all may write", "abcd", 0, 0602, NULL,
     "FILE: mode 0602, want 0600 or 0400; \"chmod 0600 FILE\" helps"},
    {"executable", "abcd", 0, 0700, NULL,
     "FILE: mode 0700, want 0600 or 0400; \"chmod 0600 FILE\" helps"},
    {"set-user-id", "abcd", 0, 04600, NULL,
     "FILE: mode 4600, want 0600 or 0400; \"chmod 0600 FILE\" helps"},
};

/* The row's text with FILE filled in. */
static void
expand(const char *from, char *to, size_t size)
{
    size_t len = 0;

    to[0] = '\0';
    while (*from != '\0' && len + 1 < size) {
        if (strncmp(from, "FILE", 4) == 0) {
            len += (size_t)snprintf(to + len, size - len, "%s", path);
            from += 4;
        } else {
            to[len++] = *from++;
            to[len] = '\0';
        }
    }
}

static void
judges_each_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        char *secret = NULL, err[300] = "", want[300];
        size_t len = 77;
        bool ok;

        print_message("  %s\n", t->name);
        write_secret(t->data, t->len ? t->len : strlen(t->data), t->mode);
        ok = conf_secret(path, MAX, &secret, &len, err, sizeof err);
        assert_int_equal(ok, t->want != NULL);
        if (ok) {
            assert_string_equal(secret, t->want);
            assert_int_equal(len, strlen(t->want));
            assert_string_equal(err, "");
        } else {
            expand(t->error, want, sizeof want);
            assert_string_equal(err, want);
            assert_null(secret);
            assert_int_equal(len, 77);
        }
        conf_secret_free(secret, ok ? len : 0);
    }
}

/* As systemd hands them over. */
static void
credentials(void **state)
{
    static const struct {
        unsigned mode;
        bool good;
    } modes[] = {{0440, true},  {0400, true},  {0600, true},
                 {0444, false}, {0460, false}, {0640, false}};
    char *secret, err[300];
    size_t len;

    (void)state;
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_false(
        conf_secret("credential:x.pw", MAX, &secret, &len, err, sizeof err));
    assert_string_equal(err, "credential:x.pw: this process was given no "
                             "credentials; want LoadCredential=x.pw:PATH in "
                             "the service's unit");
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        bool ok;

        print_message("  %04o\n", modes[i].mode);
        write_secret("abcd", 4, modes[i].mode);
        if (getegid() != 0 && modes[i].mode == 0440)
            continue; /* another group may read it */
        ok =
            conf_secret("credential:x.pw", MAX, &secret, &len, err, sizeof err);
        assert_int_equal(ok, modes[i].good);
        if (ok)
            conf_secret_free(secret, len);
        else
            assert_non_null(strstr(err, "chmod 0600"));
    }
    /* Elsewhere a group's is nobody's business. */
    write_secret("abcd", 4, 0440);
    assert_false(conf_secret(path, MAX, &secret, &len, err, sizeof err));
    assert_false(
        conf_secret("credential:none", MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "/none: No such file"));
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void
what_is_no_file(void **state)
{
    char *secret = NULL, err[300];
    size_t len;

    (void)state;
    unlink(path);
    assert_false(conf_secret(path, MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "x.pw: No such file or directory"));
    assert_false(conf_secret(directory, MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "not a regular file"));
    assert_false(conf_secret("/dev/zero", MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "not a regular file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(conf_secret(path, MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "not a regular file"));
    unlink(path);
    assert_null(secret);
    conf_secret_free(NULL, 0);
}

/* A link is followed, and the file behind it is judged. */
static void
links_lead_to_the_file_judged(void **state)
{
    char *secret = NULL, err[300];
    size_t len;

    (void)state;
    write_secret("abcd", 4, 0600);
    assert_int_equal(symlink(path, other), 0);
    assert_true(conf_secret(other, MAX, &secret, &len, err, sizeof err));
    assert_string_equal(secret, "abcd");
    conf_secret_free(secret, len);
    chmod(path, 0644);
    assert_false(conf_secret(other, MAX, &secret, &len, err, sizeof err));
    assert_non_null(strstr(err, "mode 0644"));
}

static void
a_strangers_file_is_refused(void **state)
{
    char *secret = NULL, err[300], want[300];
    size_t len;

    (void)state;
    if (geteuid() != 0)
        skip();
    write_secret("abcd", 4, 0600);
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_false(conf_secret(path, MAX, &secret, &len, err, sizeof err));
    expand("FILE: owned by user id 12345, want root or 0; \"chown 0 FILE\" "
           "helps",
           want, sizeof want);
    assert_string_equal(err, want);
}

/* As another user: its own file is good, root's can only be good where it can
 * be read. */
static void
another_user_reads_its_own(void **state)
{
    pid_t child;
    int status;

    (void)state;
    if (geteuid() != 0)
        skip();
    write_secret("abcd", 4, 0400);
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_int_equal(chmod(directory, 0755), 0);
    child = fork();
    if (child == 0) {
        char *secret = NULL, err[300] = "";
        size_t len;

        if (setresuid(12345, 12345, 12345) != 0 ||
            !conf_secret(path, MAX, &secret, &len, err, sizeof err))
            _exit(1);
        conf_secret_free(secret, len);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    assert_int_equal(chown(path, 0, (gid_t)-1), 0);
    child = fork();
    if (child == 0) {
        char *secret = NULL, err[300] = "";
        size_t len;

        if (setresuid(12345, 12345, 12345) != 0 ||
            conf_secret(path, MAX, &secret, &len, err, sizeof err))
            _exit(1);
        _exit(strstr(err, "user id 12345 may not read it; \"chown 12345 ") !=
                      NULL
                  ? 0
                  : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_each_file),
        cmocka_unit_test(credentials),
        cmocka_unit_test(what_is_no_file),
        cmocka_unit_test(links_lead_to_the_file_judged),
        cmocka_unit_test(a_strangers_file_is_refused),
        cmocka_unit_test(another_user_reads_its_own),
    };

    return cmocka_run_group_tests_name("base/conf_secret", tests, setup,
                                       teardown);
}
