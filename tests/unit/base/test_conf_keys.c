/* tests/unit/base/test_conf_keys.c - mirrors milter/base/conf_keys.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/conf.h"
#include "policy/ticket.h"

static char directory[50];

static const char *
in_keys(const char *name)
{
    static char path[2][320];
    static unsigned next;
    char *ret = path[next++ % 2];

    snprintf(ret, sizeof path[0], "%s/keys/%s", directory, name);
    return ret;
}

static int
setup(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/gmroute-keys-XXXXXX");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static unsigned
count_files(void)
{
    DIR *d = opendir(in_keys(""));
    struct dirent *e;
    unsigned n = 0;

    while (d != NULL && (e = readdir(d)) != NULL)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d != NULL)
        closedir(d);
    return n;
}

static int
teardown(void **state)
{
    DIR *d = opendir(in_keys(""));
    struct dirent *e;

    (void)state;
    while (d != NULL && (e = readdir(d)) != NULL)
        unlink(in_keys(e->d_name));
    if (d != NULL)
        closedir(d);
    rmdir(in_keys(""));
    return rmdir(directory);
}

/* A key of `size` octets, each `octet`, changed at that second. */
static void
write_key(const char *name, char octet, size_t size, unsigned mode,
          time_t changed)
{
    char octets[100];
    const char *path = in_keys(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const struct timespec times[2] = {{changed, 0}, {changed, 0}};

    memset(octets, octet, sizeof octets);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, octets, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void
make_keys_directory(void)
{
    assert_int_equal(mkdir(in_keys(""), 0750), 0);
    assert_int_equal(chmod(in_keys(""), 0750), 0);
}

static void
newest_first(void **state)
{
    struct ticket_keys keys;
    char err[300] = "";

    (void)state;
    make_keys_directory();
    write_key("1.key", 'a', TICKET_KEY_OCTETS, 0640, 1000);
    write_key("200.key", 'b', TICKET_KEY_OCTETS, 0400, 3000);
    write_key("9.key", 'c', TICKET_KEY_OCTETS, 0600, 2000);
    write_key("10.key", 'd', TICKET_KEY_OCTETS, 0440, 2000);
    write_key(".new.77", 'x', 5, 0600, 9000); /* none of ours */
    write_key("README", 'x', 5, 0644, 9000);
    assert_true(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_int_equal(keys.n, 4);
    assert_int_equal(keys.key[0].id, 200);
    assert_int_equal(keys.key[1].id, 10);
    assert_int_equal(keys.key[2].id, 9);
    assert_int_equal(keys.key[3].id, 1);
    for (unsigned i = 0; i < TICKET_KEY_OCTETS; i++) {
        assert_int_equal(keys.key[0].secret[i], 'b');
        assert_int_equal(keys.key[3].secret[i], 'a');
    }
}

static const struct row {
    const char *name, *file;
    size_t size;
    unsigned mode;
    const char *error; /* a part of it */
} rows[] = {
    {"short", "2.key", 31, 0640, "2.key: not a key of 32 octets"},
    {"long", "2.key", 33, 0640, "2.key: not a key of 32 octets"},
    {"empty", "2.key", 0, 0640, "2.key: not a key of 32 octets"},
    {"all may read", "2.key", 32, 0644, "/keys/2.key\" helps"},
    {"group may write", "2.key", 32, 0660, "mode 0660, want 0640"},
    {"executable", "2.key", 32, 0740, "mode 0740, want 0640"},
    {"id 0", "0.key", 32, 0640, "0.key: want a name from 1.key to 255.key"},
    {"id 256", "256.key", 32, 0640, "want a name from 1.key to 255.key"},
    {"leading zero", "02.key", 32, 0640, "want a name from 1.key"},
    {"many digits", "99999999999999999999.key", 32, 0640, "want a name"},
    {"word", "new.key", 32, 0640, "want a name from 1.key to 255.key"},
    {"negative", "-1.key", 32, 0640, "want a name from 1.key to 255.key"},
};

/* A key that cannot be used is said to be so, never passed over: mail signed
 * with it may be in the queue. */
static void
one_bad_key_fails_all(void **state)
{
    struct ticket_keys keys;

    (void)state;
    make_keys_directory();
    write_key("1.key", 'a', TICKET_KEY_OCTETS, 0640, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char err[300] = "";

        print_message("  %s\n", rows[i].name);
        write_key(rows[i].file, 'k', rows[i].size, rows[i].mode, 2000);
        keys.n = 77;
        assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
        if (strstr(err, rows[i].error) == NULL)
            fail_msg("error text: %s", err);
        assert_non_null(strstr(err, directory));
        assert_int_equal(keys.n, 77);
        unlink(in_keys(rows[i].file));
    }
}

static void
what_is_no_key(void **state)
{
    struct ticket_keys keys;
    char err[300] = "";

    (void)state;
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "/keys: No such file or directory"));
    make_keys_directory();
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "/keys: no key in it"));

    assert_int_equal(symlink("/etc/passwd", in_keys("1.key")), 0);
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "/keys/1.key: "));
    unlink(in_keys("1.key"));
    assert_int_equal(mkfifo(in_keys("1.key"), 0600), 0);
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "/keys/1.key: not a regular file"));
    unlink(in_keys("1.key"));

    write_key("1.key", 'a', TICKET_KEY_OCTETS, 0640, 1000);
    chmod(in_keys(""), 0770);
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "others may put keys into it (mode 0770)"));
    assert_false(conf_ticket_keys_make(directory, err, sizeof err));
}

static void
too_many_keys(void **state)
{
    struct ticket_keys keys;
    char err[300] = "", name[20];

    (void)state;
    make_keys_directory();
    for (int i = 1; i <= TICKET_KEYS_MAX; i++) {
        snprintf(name, sizeof name, "%d.key", i);
        write_key(name, 'a', TICKET_KEY_OCTETS, 0640, 1000 + i);
    }
    assert_true(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_int_equal(keys.n, TICKET_KEYS_MAX);
    assert_int_equal(keys.key[0].id, TICKET_KEYS_MAX);
    write_key("200.key", 'a', TICKET_KEY_OCTETS, 0640, 1);
    assert_false(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_non_null(strstr(err, "more than 16 keys"));
}

static void
the_first_key_is_made_once(void **state)
{
    struct ticket_keys keys, again;
    char err[300] = "";
    struct stat st;
    unsigned zeros = 0;
    mode_t old = umask(0077);

    (void)state;
    assert_true(conf_ticket_keys_make(directory, err, sizeof err));
    assert_int_equal(stat(in_keys(""), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(stat(in_keys("1.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(count_files(), 1);
    assert_true(conf_ticket_keys(directory, &keys, err, sizeof err));
    assert_int_equal(keys.n, 1);
    assert_int_equal(keys.key[0].id, 1);
    for (unsigned i = 0; i < TICKET_KEY_OCTETS; i++)
        zeros += keys.key[0].secret[i] == 0;
    assert_true(zeros < 10); /* it is random, whatever else */

    assert_true(conf_ticket_keys_make(directory, err, sizeof err));
    assert_true(conf_ticket_keys(directory, &again, err, sizeof err));
    assert_memory_equal(&keys, &again, sizeof keys);
    umask(old);
}

/* After a rotation 1.key is gone; it must not come back as the newest. */
static void
any_key_is_enough(void **state)
{
    char err[300] = "";

    (void)state;
    make_keys_directory();
    write_key("7.key", 'a', TICKET_KEY_OCTETS, 0640, 1000);
    assert_true(conf_ticket_keys_make(directory, err, sizeof err));
    assert_int_equal(count_files(), 1);
    assert_int_equal(access(in_keys("1.key"), F_OK), -1);
}

static void
a_group_is_inherited(void **state)
{
    char err[300] = "";
    struct stat st;

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(directory, (uid_t)-1, 12345), 0);
    assert_int_equal(chmod(directory, 02750), 0);
    assert_true(conf_ticket_keys_make(directory, err, sizeof err));
    assert_int_equal(stat(in_keys(""), &st), 0);
    assert_int_equal(st.st_mode & 07777, 02750);
    assert_int_equal(stat(in_keys("1.key"), &st), 0);
    assert_int_equal(st.st_gid, 12345);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void
what_cannot_be_made(void **state)
{
    char err[300] = "", deep[80], longs[5000];
    pid_t child;
    int status, fd;

    (void)state;
    snprintf(deep, sizeof deep, "%s/no/such", directory);
    assert_false(conf_ticket_keys_make(deep, err, sizeof err));
    assert_non_null(strstr(err, "/no/such/keys: No such file or directory"));

    memset(longs, 'x', sizeof longs);
    longs[sizeof longs - 1] = '\0';
    assert_false(conf_ticket_keys_make(longs, err, sizeof err));

    fd = open(in_keys(""), O_WRONLY | O_CREAT, 0600);
    assert_int_equal(fd, -1); /* the slash */
    snprintf(deep, sizeof deep, "%s/keys", directory);
    fd = open(deep, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_false(conf_ticket_keys_make(directory, err, sizeof err));
    assert_non_null(strstr(err, "/keys: Not a directory"));
    unlink(deep);

    if (geteuid() != 0)
        return;
    assert_int_equal(chmod(directory, 0755), 0);
    child = fork();
    if (child == 0) {
        if (setresuid(12345, 12345, 12345) != 0 ||
            conf_ticket_keys_make(directory, err, sizeof err))
            _exit(1);
        _exit(strstr(err, "/keys: Permission denied") != NULL ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The milter, where the agent owns "keys": who starts first says what to do. */
static void
only_the_owner_makes_the_first_key(void **state)
{
    char err[300] = "", deep[120];
    int status;
    pid_t child;

    (void)state;
    if (geteuid() != 0)
        skip();
    snprintf(deep, sizeof deep, "%s/keys", directory);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(mkdir(deep, 0755), 0);
    child = fork();
    if (child == 0) {
        if (setresuid(12345, 12345, 12345) != 0 ||
            conf_ticket_keys_make(directory, err, sizeof err))
            _exit(1);
        _exit(strstr(err, "/keys: no key in it yet") != NULL &&
                      strstr(err, "start gmroute-deliver") != NULL
                  ? 0
                  : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(conf_ticket_keys_make(directory, err, sizeof err));
}

enum { RACERS = 8, ROUNDS = 20 };

struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    struct ticket_keys keys;
    char err[300];
    bool ok;
};

static void *
race(void *cookie)
{
    struct racer *r = cookie;

    pthread_barrier_wait(r->start);
    r->ok = conf_ticket_keys_make(directory, r->err, sizeof r->err) &&
            conf_ticket_keys(directory, &r->keys, r->err, sizeof r->err);
    return NULL;
}

static void
daemons_that_start_together_share_one_key(void **state)
{
    static struct racer racer[RACERS];

    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_t start;

        pthread_barrier_init(&start, NULL, RACERS);
        memset(racer, 0, sizeof racer);
        for (unsigned i = 0; i < RACERS; i++) {
            racer[i].start = &start;
            assert_int_equal(
                pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
        }
        for (unsigned i = 0; i < RACERS; i++)
            pthread_join(racer[i].thread, NULL);
        pthread_barrier_destroy(&start);
        for (unsigned i = 0; i < RACERS; i++) {
            if (!racer[i].ok)
                fail_msg("%s", racer[i].err);
            assert_memory_equal(&racer[i].keys, &racer[0].keys,
                                sizeof racer[0].keys);
        }
        assert_int_equal(count_files(), 1);
        teardown(state);
        setup(state);
    }
}

#define KEYS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        KEYS_TEST(newest_first),
        KEYS_TEST(one_bad_key_fails_all),
        KEYS_TEST(what_is_no_key),
        KEYS_TEST(too_many_keys),
        KEYS_TEST(the_first_key_is_made_once),
        KEYS_TEST(any_key_is_enough),
        KEYS_TEST(a_group_is_inherited),
        KEYS_TEST(what_cannot_be_made),
        KEYS_TEST(only_the_owner_makes_the_first_key),
        KEYS_TEST(daemons_that_start_together_share_one_key),
    };

    return cmocka_run_group_tests_name("base/conf_keys", tests, NULL, NULL);
}
