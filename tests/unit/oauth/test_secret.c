/* tests/unit/oauth/test_secret.c - mirrors milter/oauth/secret.c
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
#include <unistd.h>

#include <cmocka.h>

#include "milter/oauth/secret.h"
#include "milter/oauth/wipe.h"

enum { ACCOUNT = 0x1234 };

static char directory[] = "/tmp/gmroute-token-XXXXXX";
static char configured[100], folder[100], rotated[100];
static const struct refresh_token none = {NULL, {0}};

static int
setup(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(configured, sizeof configured, "%s/sales.token", directory);
    snprintf(folder, sizeof folder, "%s/tokens", directory);
    snprintf(rotated, sizeof rotated, "%s/tokens/%016x.token", directory,
             ACCOUNT);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    unlink(configured);
    unlink(rotated);
    rmdir(folder);
    return rmdir(directory);
}

static void
write_file(const char *path, const char *text, unsigned mode)
{
    FILE *f;

    unlink(path);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

/* The token in use, or the reason in `err`. */
static bool
read_token(const struct refresh_token *unsaved, struct refresh_token *ret,
           char err[300])
{
    *ret = none;
    err[0] = 0;
    return secret_refresh_token(directory, ACCOUNT, configured, unsaved, ret,
                                err, 300);
}

static void
check_token(const struct refresh_token *unsaved, const char *want)
{
    struct refresh_token t;
    char err[300];

    if (!read_token(unsaved, &t, err))
        fail_msg("%s", err);
    assert_string_equal(t.text, want);
    refresh_token_free(&t);
    assert_null(t.text);
}

static void
check_refused(const char *why)
{
    struct refresh_token t;
    char err[300];

    assert_false(read_token(&none, &t, err));
    if (strstr(err, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err, why);
    assert_null(strstr(err, "PLANTED"));
    assert_null(t.text);
}

static void
rotate(const char *text)
{
    struct refresh_token t;
    char err[300];

    assert_true(read_token(&none, &t, err));
    wipe_free(t.text);
    t.text = wipe_strdup(text);
    assert_true(secret_store(directory, ACCOUNT, &t, err, sizeof err));
    refresh_token_free(&t);
}

static void
the_configured_token_is_used(void **state)
{
    (void)state;
    write_file(configured, "1//one\n", 0600);
    check_token(&none, "1//one");
}

static void
a_rotated_token_wins_until_somebody_logs_in(void **state)
{
    struct stat st;

    (void)state;
    write_file(configured, "1//one\n", 0600);
    rotate("1//two");
    assert_int_equal(stat(rotated, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    check_token(&none, "1//two");
    rotate("1//three");
    check_token(&none, "1//three");
    /* Copied about, but the same. */
    write_file(configured, "1//one\n", 0600);
    check_token(&none, "1//three");
    write_file(configured, "1//login\n", 0600);
    check_token(&none, "1//login");
    rotate("1//four");
    check_token(&none, "1//four");
}

/* systemd's files are nobody's to write: what is rotated goes to the state
 * directory, and wins until LoadCredential= brings another. */
static void
a_credential_is_rotated_in_the_state_directory(void **state)
{
    const struct refresh_token *unsaved = &none;
    char folder_of[] = "/tmp/gmroute-credentials-XXXXXX", file[100], text[40];
    struct refresh_token t;
    char err[300] = "";
    struct stat before, after;
    FILE *f;

    (void)state;
    unlink(rotated);
    assert_non_null(mkdtemp(folder_of));
    snprintf(file, sizeof file, "%s/sales", folder_of);
    write_file(file, "1//given\n", 0400);
    assert_int_equal(chmod(folder_of, 0500), 0);
    assert_int_equal(stat(file, &before), 0);
    setenv("CREDENTIALS_DIRECTORY", folder_of, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(secret_refresh_token(directory, ACCOUNT, "credential:sales",
                                         unsaved, &t, err, sizeof err));
        assert_string_equal(t.text, i == 0 ? "1//given" : "1//rotated");
        wipe_free(t.text);
        t.text = wipe_strdup("1//rotated");
        assert_true(secret_store(directory, ACCOUNT, &t, err, sizeof err));
        refresh_token_free(&t);
    }
    assert_int_equal(stat(file, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    f = fopen(file, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_string_equal(text, "1//given\n");
    fclose(f);
    assert_int_equal(chmod(folder_of, 0700), 0);
    write_file(file, "1//another\n", 0400);
    assert_true(secret_refresh_token(directory, ACCOUNT, "credential:sales",
                                     unsaved, &t, err, sizeof err));
    assert_string_equal(t.text, "1//another");
    refresh_token_free(&t);
    unsetenv("CREDENTIALS_DIRECTORY");
    unlink(file);
    rmdir(folder_of);
}

static void
what_is_in_no_file_yet_wins_over_files(void **state)
{
    struct refresh_token unsaved;
    char err[300];

    (void)state;
    write_file(configured, "1//one\n", 0600);
    rotate("1//two");
    assert_true(read_token(&none, &unsaved, err));
    wipe_free(unsaved.text);
    unsaved.text = wipe_strdup("1//three");
    check_token(&unsaved, "1//three");
    write_file(configured, "1//login\n", 0600);
    check_token(&unsaved, "1//login");
    refresh_token_free(&unsaved);
}

static void
bad_files_are_refused_with_a_reason(void **state)
{
    (void)state;
    unlink(rotated);
    unlink(configured);
    check_refused("No such file");
    write_file(configured, "1//PLANTED\n", 0644);
    check_refused("chmod");
    write_file(configured, "", 0600);
    check_refused(configured);
    write_file(configured, "1//PLANTED two\n", 0600);
    check_refused("one line");
    write_file(configured, "1//PLANTED\nmore\n", 0600);
    check_refused("one line");
}

/* Never the older token: a rotated one that is used twice can cost both. */
static void
a_broken_rotated_file_is_no_reason_to_go_back(void **state)
{
    static const char *const bad[] = {
        "",
        "1//PLANTED",
        "1//PLANTED\n",
        "1//PLANTED\nabc\n",
        ("1//PLANTED\n"
         "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\n"),
    };

    (void)state;
    write_file(configured, "1//one\n", 0600);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(rotated, bad[i], 0600);
        check_refused(rotated);
    }
    unlink(rotated);
    check_token(&none, "1//one");
}

static void
a_directory_that_is_not_there(void **state)
{
    struct refresh_token t = {wipe_strdup("1//PLANTED"), {0}};
    char err[300] = "";

    (void)state;
    assert_false(secret_store("/nowhere/at/all", ACCOUNT, &t, err, sizeof err));
    assert_non_null(strstr(err, "/nowhere/at/all"));
    assert_null(strstr(err, "PLANTED"));
    refresh_token_free(&t);
}

static void
stamps_change_with_the_file(void **state)
{
    uint64_t before;

    (void)state;
    unlink(configured);
    assert_int_equal(secret_stamp(configured), 0);
    write_file(configured, "1//one\n", 0600);
    before = secret_stamp(configured);
    assert_int_not_equal(before, 0);
    assert_int_equal(secret_stamp(configured), before);
    assert_int_equal(chmod(configured, 0400), 0);
    assert_int_not_equal(secret_stamp(configured), before);
    write_file(configured, "1//one\n", 0600);
    rotate("1//two");
    before = secret_rotated_stamp(directory, ACCOUNT);
    assert_int_not_equal(before, 0);
    rotate("1//three");
    assert_int_not_equal(secret_rotated_stamp(directory, ACCOUNT), before);
}

static void
a_login_is_installed_in_place(void **state)
{
    char link[120], fresh[120], err[300] = "";
    struct refresh_token t;
    struct stat st;

    (void)state;
    snprintf(link, sizeof link, "%s/link", directory);
    snprintf(fresh, sizeof fresh, "%s.new", configured);
    unlink(configured);
    unlink(rotated);
    write_file(fresh, "left by a crash", 0644);
    assert_true(secret_install(configured, "1//first", geteuid(), getegid(),
                               err, sizeof err));
    assert_int_equal(stat(configured, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(read_token(&none, &t, err));
    assert_string_equal(t.text, "1//first");
    refresh_token_free(&t);

    /* Through a link, which stays one. */
    assert_int_equal(symlink("sales.token", link), 0);
    assert_true(secret_install(link, "1//second", geteuid(), getegid(), err,
                               sizeof err));
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link);
    assert_true(read_token(&none, &t, err));
    assert_string_equal(t.text, "1//second");
    refresh_token_free(&t);
    assert_int_not_equal(access(fresh, F_OK), 0);

    snprintf(link, sizeof link, "%s/nowhere/x", directory);
    assert_false(
        secret_install(link, "1//x", geteuid(), getegid(), err, sizeof err));
    assert_non_null(strstr(err, "nowhere/x: No such file"));

    if (geteuid() == 0) { /* of the daemon's user, who alone may read it */
        assert_true(
            secret_install(configured, "1//third", 12345, 0, err, sizeof err));
        assert_int_equal(stat(configured, &st), 0);
        assert_int_equal(st.st_uid, 12345);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_configured_token_is_used),
        cmocka_unit_test(a_rotated_token_wins_until_somebody_logs_in),
        cmocka_unit_test(a_credential_is_rotated_in_the_state_directory),
        cmocka_unit_test(what_is_in_no_file_yet_wins_over_files),
        cmocka_unit_test(bad_files_are_refused_with_a_reason),
        cmocka_unit_test(a_broken_rotated_file_is_no_reason_to_go_back),
        cmocka_unit_test(a_directory_that_is_not_there),
        cmocka_unit_test(a_login_is_installed_in_place),
        cmocka_unit_test(stamps_change_with_the_file),
    };

    return cmocka_run_group_tests_name("token/secret", tests, setup, teardown);
}
