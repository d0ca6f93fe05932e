/* tests/unit/state/test_segment.c - mirrors milter/state/segment*.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "milter/state/attachment.h"
#include "milter/state/segment.h"
#include "tests/unit/state/fixture.h"

enum { SLOT = 128 };

static char directory[100], err[300];

static int
set_up(void **state)
{
    (void)state;
    fixture_directory(directory, sizeof directory);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    umount2(directory, MNT_DETACH); /* a test that failed half-way */
    fixture_remove(directory);
    return 0;
}

static const char *
path_of(const char *name)
{
    static char path[2][200]; /* two in one call */
    static unsigned turn;
    char *ret = path[turn++ % 2];

    snprintf(ret, sizeof *path, "%s/%s", directory, name);
    return ret;
}

static enum state_result
make(struct segment *ret, enum segment_kind kind, uint32_t n_accounts)
{
    struct segment_shape shape = {
        .kind = kind, .n_accounts = n_accounts, .slot_size = SLOT};
    struct segment s = {0};
    enum state_result r;

    r = segment_build(&s, directory, &shape, err, sizeof err);
    if (r != STATE_OK)
        return r;
    r = segment_install(&s, SEGMENT_REPLACE, err, sizeof err);
    if (r != STATE_OK)
        segment_detach(&s);
    else
        *ret = s;
    return r;
}

static enum state_result
attach(struct segment *ret, enum segment_kind kind, bool writable)
{
    return segment_attach(ret, directory, kind, SLOT, writable, err,
                          sizeof err);
}

/* ---- making and attaching ---- */

static const struct {
    enum segment_kind kind;
    const char *name;
    mode_t mode;
} kinds[] = {
    {SEGMENT_QUOTA, "quota", 0640},
    {SEGMENT_HINTS, "hints", 0660},
    {SEGMENT_STATUS, "status", 0640},
    {SEGMENT_TOKEN, "token", 0600},
};

static void
each_kind_is_made_and_attached(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct segment maker = {0}, reader = {0};
        struct segment_info info;
        struct stat st;
        mode_t mask = umask(0777); /* modes do not hang on it */

        print_message("  %s\n", kinds[i].name);
        assert_int_equal(make(&maker, kinds[i].kind, 20), STATE_OK);
        umask(mask);
        assert_int_equal(stat(path_of(kinds[i].name), &st), 0);
        assert_int_equal(st.st_mode & 07777, kinds[i].mode);
        assert_int_equal(attach(&reader, kinds[i].kind, false), STATE_OK);
        assert_int_equal(reader.n_slots, 32);
        assert_int_equal(reader.slot_size, SLOT);
        assert_false(reader.writable);
        assert_int_equal(
            segment_inspect(directory, kinds[i].kind, &info, err, sizeof err),
            STATE_OK);
        assert_int_equal(info.maker_pid, getpid());
        assert_int_equal(info.slots_used, 0);
        segment_detach(&reader);
        segment_detach(&maker);
    }
    assert_int_equal(fixture_count(directory, ".quota.new-"), 0);
}

static void
results_and_kinds_have_names(void **state)
{
    (void)state;
    for (int r = 0; r <= STATE_ETAKEN; r++)
        assert_string_not_equal(state_result_text((enum state_result)r), "?");
    assert_string_equal(state_result_text((enum state_result)99), "?");
    assert_string_equal(segment_name(SEGMENT_KINDS), "?");
}

static void
absent_is_absent(void **state)
{
    struct segment s = {.size = 77};

    (void)state;
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_EABSENT);
    assert_int_equal(s.size, 77); /* untouched on failure */
    assert_non_null(strstr(err, "quota"));
    assert_int_equal(segment_attach(&s, "/nonexistent/directory", SEGMENT_QUOTA,
                                    SLOT, false, err, sizeof err),
                     STATE_EABSENT);
}

static void
absurd_sizes_are_refused(void **state)
{
    struct segment s = {0};
    struct segment_shape shape = {
        .kind = SEGMENT_QUOTA, .n_accounts = UINT32_MAX, .slot_size = SLOT};
    char deep[400];

    (void)state;
    assert_int_equal(segment_build(&s, directory, &shape, err, sizeof err),
                     STATE_ELAYOUT);
    shape.n_accounts = 10;
    shape.slot_size = 100; /* no multiple of 64 */
    assert_int_equal(segment_build(&s, directory, &shape, err, sizeof err),
                     STATE_ELAYOUT);
    memset(deep, 'x', sizeof deep);
    deep[0] = '/';
    deep[sizeof deep - 1] = '\0';
    shape.slot_size = SLOT;
    assert_int_equal(segment_build(&s, deep, &shape, err, sizeof err),
                     STATE_ESYSTEM);
    assert_int_equal(
        segment_attach(&s, deep, SEGMENT_QUOTA, SLOT, false, err, sizeof err),
        STATE_ESYSTEM);
    assert_int_equal(
        segment_build(&s, "/nonexistent/directory", &shape, err, sizeof err),
        STATE_EABSENT);
}

/* ---- strangers ---- */

static void
a_symbolic_link_is_refused(void **state)
{
    struct segment maker = {0}, s = {0};

    (void)state;
    assert_int_equal(make(&maker, SEGMENT_QUOTA, 20), STATE_OK);
    assert_int_equal(rename(path_of("quota"), path_of("else")), 0);
    assert_int_equal(symlink("else", path_of("quota")), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_EACCESS);
    segment_detach(&maker);

    /* the maker replaces the link, never what it points to */
    assert_int_equal(make(&maker, SEGMENT_QUOTA, 20), STATE_OK);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_OK);
    segment_detach(&s);
    segment_detach(&maker);
}

static void
what_is_no_regular_file_is_refused(void **state)
{
    struct segment s = {0};

    (void)state;
    assert_int_equal(mkfifo(path_of("quota"), 0600), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_EACCESS);
    assert_int_equal(unlink(path_of("quota")), 0);
}

/* As root makes it for a daemon with a user of its own. */
static void
a_directory_of_its_own_says_who_may_read(void **state)
{
    static const struct {
        enum segment_kind kind;
        mode_t directory, file;
    } rows[] = {
        {SEGMENT_QUOTA, 02750, 0640},  {SEGMENT_QUOTA, 02755, 0644},
        {SEGMENT_HINTS, 02775, 0664},  {SEGMENT_HINTS, 02770, 0660},
        {SEGMENT_STATUS, 02750, 0640}, {SEGMENT_TOKEN, 02750, 0640},
        {SEGMENT_TOKEN, 0700, 0600},   {SEGMENT_TOKEN, 02755, 0640},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *name = segment_name(rows[i].kind);
        struct segment maker = {0}, again = {0}, reader = {0};
        char own[200], file[220];
        struct stat st;

        print_message("  %s %04o\n", name, (unsigned)rows[i].directory);
        snprintf(own, sizeof own, "%s/%s", directory, name);
        snprintf(file, sizeof file, "%s/%s", own, name);
        assert_int_equal(mkdir(own, 0700), 0);
        if (geteuid() == 0)
            assert_int_equal(chown(own, 12345, 54321), 0);
        assert_int_equal(chmod(own, rows[i].directory), 0);
        assert_int_equal(attach(&reader, rows[i].kind, false), STATE_EABSENT);

        assert_int_equal(make(&maker, rows[i].kind, 20), STATE_OK);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 07777, rows[i].file);
        if (geteuid() == 0 && (rows[i].directory & S_ISGID) != 0)
            assert_int_equal(st.st_gid, 54321);
        assert_int_equal(attach(&reader, rows[i].kind, false), STATE_OK);
        assert_false(segment_stale(&reader, true));
        segment_detach(&maker);
        assert_int_equal(make(&again, rows[i].kind, 40), STATE_OK);
        assert_true(segment_stale(&reader, true));
        segment_detach(&again);
        segment_detach(&reader);

        /* nothing of it lies where the others are */
        assert_int_equal(fixture_count(directory, "."), 2);
        assert_int_equal(fixture_count(directory, name), 1);
        fixture_remove(own);
    }
}

/* Who may write there is trusted, and nobody else: here the owner of the
 * runtime directory is no longer. */
static void
the_owner_of_its_own_directory_is_trusted(void **state)
{
    struct segment maker = {0}, s = {0};
    char own[200], file[220];

    (void)state;
    if (geteuid() != 0)
        skip();
    snprintf(own, sizeof own, "%s/status", directory);
    snprintf(file, sizeof file, "%s/status", own);
    assert_int_equal(mkdir(own, 0750), 0);
    assert_int_equal(chown(own, 12345, 54321), 0);
    assert_int_equal(chown(directory, 777, 777), 0);
    assert_int_equal(make(&maker, SEGMENT_STATUS, 20), STATE_OK);
    assert_int_equal(chown(file, 12345, 54321), 0);
    assert_int_equal(attach(&s, SEGMENT_STATUS, false), STATE_OK);
    segment_detach(&s);
    assert_int_equal(chown(file, 777, 54321), 0);
    assert_int_equal(attach(&s, SEGMENT_STATUS, false), STATE_EACCESS);
    segment_detach(&maker);
    fixture_remove(own);
}

static void
loose_modes_are_refused(void **state)
{
    static const struct {
        enum segment_kind kind;
        mode_t mode;
        enum state_result want;
    } rows[] = {
        {SEGMENT_QUOTA, 0640, STATE_OK},
        {SEGMENT_QUOTA, 0600, STATE_OK},
        {SEGMENT_QUOTA, 0644, STATE_OK},
        {SEGMENT_QUOTA, 0660, STATE_EACCESS},
        {SEGMENT_QUOTA, 0642, STATE_EACCESS},
        {SEGMENT_HINTS, 0660, STATE_OK},
        {SEGMENT_HINTS, 0662, STATE_EACCESS},
        {SEGMENT_STATUS, 0660, STATE_EACCESS},
        {SEGMENT_TOKEN, 0600, STATE_OK},
        {SEGMENT_TOKEN, 0640, STATE_OK},
        {SEGMENT_TOKEN, 0644, STATE_EACCESS},
        {SEGMENT_TOKEN, 0660, STATE_EACCESS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *name = segment_name(rows[i].kind);
        struct segment maker = {0}, s = {0};

        print_message("  %s %04o\n", name, (unsigned)rows[i].mode);
        assert_int_equal(make(&maker, rows[i].kind, 20), STATE_OK);
        assert_int_equal(chmod(path_of(name), rows[i].mode), 0);
        assert_int_equal(attach(&s, rows[i].kind, false), rows[i].want);
        if (rows[i].want == STATE_EACCESS)
            assert_non_null(strstr(err, "mode"));
        segment_detach(&s);
        segment_detach(&maker);
    }
}

static void
a_strangers_file_is_refused(void **state)
{
    struct segment maker = {0}, s = {0};

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(make(&maker, SEGMENT_QUOTA, 20), STATE_OK);
    assert_int_equal(chown(path_of("quota"), 12345, 12345), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_EACCESS);
    assert_non_null(strstr(err, "12345"));

    /* the owner of the directory is trusted */
    assert_int_equal(chown(directory, 12345, 12345), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_OK);
    segment_detach(&s);

    /* and a directory that a group of daemons shares, but not all the world */
    assert_int_equal(chown(directory, 0, 12345), 0);
    assert_int_equal(chmod(directory, 02770), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_OK);
    segment_detach(&s);
    assert_int_equal(chmod(directory, 01777), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_EACCESS);
    segment_detach(&maker);
}

/* ---- damage ---- */

static void
a_cut_file_is_refused_at_any_length(void **state)
{
    static const off_t lengths[] = {0, 1, 447, 448, 449, 4095, 4096, 4097};
    struct segment maker = {0}, s = {0};
    off_t whole;

    (void)state;
    assert_int_equal(make(&maker, SEGMENT_QUOTA, 20), STATE_OK);
    whole = (off_t)maker.size;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(make(&s, SEGMENT_STATUS, 20), STATE_OK);
        segment_detach(&s);
        assert_int_equal(truncate(path_of("status"), lengths[i]), 0);
        assert_int_equal(attach(&s, SEGMENT_STATUS, false), STATE_ECORRUPT);
    }
    assert_int_equal(truncate(path_of("quota"), whole + 4096), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_ECORRUPT);
    segment_detach(&maker);
}

/* A property: no bit of what the head says about sizes can change without
 * being noticed. */
static void
each_flipped_bit_of_the_sizes_is_noticed(void **state)
{
    struct segment maker = {0}, s = {0};
    size_t end = offsetof(struct segment_head, made_at_s);

    (void)state;
    assert_int_equal(make(&maker, SEGMENT_QUOTA, 20), STATE_OK);
    for (size_t bit = 0; bit < end * 8; bit++) {
        unsigned char *octet = (unsigned char *)maker.head + bit / 8;
        enum state_result r;

        /* Free between 0 and LIMITS_MAX: the quota reader looks at it. */
        if (bit / 8 == offsetof(struct segment_head, windows) && bit % 8 < 4)
            continue;
        *octet ^= (unsigned char)(1u << bit % 8);
        r = attach(&s, SEGMENT_QUOTA, false);
        *octet ^= (unsigned char)(1u << bit % 8);
        if (r != STATE_ECORRUPT && r != STATE_ELAYOUT)
            fail_msg("bit %zu of octet %zu: %s", bit % 8, bit / 8,
                     state_result_text(r));
    }
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_OK);
    segment_detach(&s);
    segment_detach(&maker);
}

static void
another_kind_or_version_is_told_apart(void **state)
{
    struct segment maker = {0}, s = {0};

    (void)state;
    assert_int_equal(make(&maker, SEGMENT_STATUS, 20), STATE_OK);
    assert_int_equal(rename(path_of("status"), path_of("quota")), 0);
    assert_int_equal(attach(&s, SEGMENT_QUOTA, false), STATE_ECORRUPT);
    assert_int_equal(rename(path_of("quota"), path_of("status")), 0);
    maker.head->layout = SEGMENT_LAYOUT + 1;
    assert_int_equal(attach(&s, SEGMENT_STATUS, false), STATE_ELAYOUT);
    assert_non_null(strstr(err, "restart"));
    maker.head->layout = SEGMENT_LAYOUT;
    assert_int_equal(segment_attach(&s, directory, SEGMENT_STATUS, SLOT + 64,
                                    false, err, sizeof err),
                     STATE_ELAYOUT);
    segment_detach(&maker);
}

/* ---- one maker ---- */

static void
one_maker_at_a_time(void **state)
{
    struct segment first = {0}, second = {0};

    (void)state;
    assert_int_equal(make(&first, SEGMENT_QUOTA, 20), STATE_OK);
    assert_int_equal(make(&second, SEGMENT_QUOTA, 20), STATE_ETAKEN);
    assert_non_null(strstr(err, "only one"));
    assert_false(segment_stale(&first, true)); /* and nothing was touched */
    segment_detach(&first);
    assert_int_equal(make(&second, SEGMENT_QUOTA, 20), STATE_OK);
    segment_detach(&second);
}

static void
the_lock_ends_with_the_process(void **state)
{
    struct segment s = {0};
    int status, to_us[2];
    char c;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(to_us), 0);
    child = fork();
    if (child == 0) {
        if (make(&s, SEGMENT_QUOTA, 20) != STATE_OK ||
            write(to_us[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(to_us[0], &c, 1), 1);
    assert_int_equal(make(&s, SEGMENT_QUOTA, 20), STATE_ETAKEN);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(make(&s, SEGMENT_QUOTA, 20), STATE_OK);
    segment_detach(&s);
    close(to_us[0]);
    close(to_us[1]);
}

static void
leftovers_of_a_dead_maker_are_swept(void **state)
{
    struct segment s = {0};
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    int fd;

    (void)state;
    fd = open(path_of(".quota.new-0123"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(make(&s, SEGMENT_QUOTA, 20), STATE_OK);
    assert_int_equal(fixture_count(directory, ".quota.new-"), 0);
    segment_detach(&s);

    /* of two makers, a young file may be the other's */
    fd = open(path_of(".hints.new-0123"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(make(&s, SEGMENT_HINTS, 20), STATE_OK);
    assert_int_equal(fixture_count(directory, ".hints.new-"), 1);
    segment_detach(&s);
    assert_int_equal(futimens(fd, old), 0);
    close(fd);
    assert_int_equal(make(&s, SEGMENT_HINTS, 20), STATE_OK);
    assert_int_equal(fixture_count(directory, ".hints.new-"), 0);
    segment_detach(&s);
}

static void
a_segment_that_was_not_installed_leaves_nothing(void **state)
{
    struct segment_shape shape = {
        .kind = SEGMENT_STATUS, .n_accounts = 20, .slot_size = SLOT};
    struct segment s = {0};

    (void)state;
    assert_int_equal(segment_build(&s, directory, &shape, err, sizeof err),
                     STATE_OK);
    assert_int_equal(fixture_count(directory, ".status.new-"), 1);
    assert_int_equal(fixture_count(directory, "status"), 0);
    segment_detach(&s);
    assert_int_equal(fixture_count(directory, ".status.new-"), 0);
    segment_detach(&s); /* again: takes a detached one */
}

static void
the_first_stays(void **state)
{
    struct segment_shape shape = {
        .kind = SEGMENT_HINTS, .n_accounts = 20, .slot_size = SLOT};
    struct segment a = {0}, b = {0};

    (void)state;
    assert_int_equal(segment_build(&a, directory, &shape, err, sizeof err),
                     STATE_OK);
    assert_int_equal(segment_build(&b, directory, &shape, err, sizeof err),
                     STATE_OK);
    assert_int_equal(segment_install(&a, SEGMENT_FIRST, err, sizeof err),
                     STATE_OK);
    assert_int_equal(segment_install(&b, SEGMENT_FIRST, err, sizeof err),
                     STATE_ETAKEN);
    segment_detach(&b);
    assert_false(segment_stale(&a, true));
    assert_int_equal(fixture_count(directory, ".hints.new-"), 0);
    segment_detach(&a);
}

/* ---- replaced ---- */

static void
the_old_one_is_retired(void **state)
{
    struct segment first = {0}, second = {0}, reader = {0};

    (void)state;
    assert_int_equal(make(&first, SEGMENT_STATUS, 20), STATE_OK);
    assert_int_equal(attach(&reader, SEGMENT_STATUS, false), STATE_OK);
    segment_detach(&first);
    assert_false(segment_stale(&reader, true));
    assert_int_equal(make(&second, SEGMENT_STATUS, 20), STATE_OK);
    assert_true(segment_stale(&reader, false));
    segment_detach(&reader);
    assert_int_equal(attach(&reader, SEGMENT_STATUS, false), STATE_OK);
    assert_false(segment_stale(&reader, true));
    segment_detach(&reader);
    segment_detach(&second);
}

/* After an upgrade the file of the other version lies there still: nobody reads
 * it, and the next agent puts its own in its place. */
static void
another_layout_is_refused_and_replaced(void **state)
{
    static const int step[] = {-1, 1};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct segment old = {0}, fresh = {0}, reader = {0};

        assert_int_equal(make(&old, SEGMENT_QUOTA, 20), STATE_OK);
        old.head->layout = (uint32_t)((int)SEGMENT_LAYOUT + step[i]);
        segment_detach(&old);
        assert_int_equal(attach(&reader, SEGMENT_QUOTA, false), STATE_ELAYOUT);
        assert_int_equal(make(&fresh, SEGMENT_QUOTA, 20), STATE_OK);
        assert_int_equal(attach(&reader, SEGMENT_QUOTA, false), STATE_OK);
        assert_int_equal(reader.head->layout, SEGMENT_LAYOUT);
        segment_detach(&reader);
        segment_detach(&fresh);
    }
}

static void
a_removed_file_is_good_until_replaced(void **state)
{
    struct segment first = {0}, second = {0}, reader = {0};

    (void)state;
    assert_int_equal(make(&first, SEGMENT_STATUS, 20), STATE_OK);
    assert_int_equal(attach(&reader, SEGMENT_STATUS, false), STATE_OK);
    segment_detach(&first);
    assert_int_equal(unlink(path_of("status")), 0);
    assert_false(segment_stale(&reader, true));
    assert_int_equal(make(&second, SEGMENT_STATUS, 20), STATE_OK);
    assert_false(segment_stale(&reader, false)); /* nobody could mark it */
    assert_true(segment_stale(&reader, true));
    segment_detach(&reader);
    segment_detach(&second);
}

static void
an_attachment_comes_over_by_itself(void **state)
{
    struct attachment *a =
        attachment_new(directory, SEGMENT_STATUS, SLOT, false);
    struct segment s = {0};
    struct mapping *old, *new;

    (void)state;
    assert_int_equal(attachment_get(a, &old, err, sizeof err), STATE_EABSENT);
    assert_int_equal(make(&s, SEGMENT_STATUS, 20), STATE_OK);
    segment_detach(&s);
    assert_int_equal(attachment_get(a, &old, err, sizeof err), STATE_OK);
    assert_int_equal(make(&s, SEGMENT_STATUS, 200), STATE_OK);
    assert_int_equal(attachment_get(a, &new, err, sizeof err), STATE_OK);
    assert_ptr_not_equal(old, new);
    assert_int_equal(old->segment.n_slots, 32); /* still mapped: we hold it */
    assert_int_equal(new->segment.n_slots, 256);
    assert_int_not_equal(old->number, new->number);
    attachment_put(a, old);
    attachment_put(a, new);
    attachment_free(a);
    attachment_free(NULL);
    segment_detach(&s);
}

/* ---- the table ---- */

static void
ids_are_claimed_once_and_found(void **state)
{
    struct segment s = {0}, reader = {0};
    void *slot, *again;
    uint64_t id = 0;

    (void)state;
    assert_int_equal(make(&s, SEGMENT_STATUS, 28), STATE_OK);
    assert_int_equal(s.n_slots, 32);
    assert_int_equal(attach(&reader, SEGMENT_STATUS, false), STATE_OK);
    /* all of them want the same place */
    for (uint64_t i = 1; i <= 28; i++) {
        assert_null(segment_find(&s, i << 32));
        assert_int_equal(segment_claim(&s, i << 32, &slot), STATE_OK);
        assert_int_equal(segment_claim(&s, i << 32, &again), STATE_OK);
        assert_ptr_equal(slot, again);
        assert_ptr_equal(segment_find(&s, i << 32), slot);
        assert_int_equal(segment_index(&s, slot), i - 1);
        memset(slot, (int)i, SLOT);
        assert_int_equal(*(unsigned char *)segment_find(&reader, i << 32), i);
    }
    assert_int_equal(segment_claim(&s, 99ull << 32, &slot), STATE_EFULL);
    assert_null(segment_find(&s, 99ull << 32));
    assert_null(segment_find(&s, 0));
    assert_int_equal(segment_claim(&s, 0, &slot), STATE_ECORRUPT);
    assert_int_equal(atomic_load(&s.head->slots_used), 28);
    assert_non_null(segment_slot(&reader, 27, &id));
    assert_true(id == 28ull << 32);
    assert_null(segment_slot(&reader, 28, &id));
    segment_detach(&reader);
    segment_detach(&s);
}

static void
who_comes_takes_the_place_of_one_who_has_left(void **state)
{
    struct segment s = {0}, reader = {0};
    void *slot[28], *again;
    uint64_t id;

    (void)state;
    assert_int_equal(make(&s, SEGMENT_QUOTA, 28), STATE_OK);
    assert_int_equal(attach(&reader, SEGMENT_QUOTA, false), STATE_OK);
    for (uint64_t i = 0; i < 28; i++)
        assert_int_equal(segment_claim(&s, (i + 1) << 32, &slot[i]), STATE_OK);
    segment_leave(&s, slot[4]);
    segment_leave(&s, slot[9]);
    assert_int_equal(segment_room(&s), 2);
    assert_null(segment_find(&reader, 5ull << 32));
    assert_null(segment_slot(&reader, 4, &id));
    for (uint64_t i = 10; i < 28; i++) /* those behind them are found */
        assert_int_equal(
            segment_index(&reader, segment_find(&reader, (i + 1) << 32)), i);
    /* One that is there is not claimed twice. */
    assert_int_equal(segment_claim(&s, 28ull << 32, &again), STATE_OK);
    assert_ptr_equal(again, slot[27]);
    assert_int_equal(segment_claim(&s, 100ull << 32, &again), STATE_OK);
    assert_ptr_equal(again, slot[4]);
    assert_int_equal(segment_claim(&s, 10ull << 32, &again), STATE_OK);
    assert_ptr_equal(again, slot[9]);
    assert_int_equal(segment_claim(&s, 101ull << 32, &again), STATE_EFULL);
    assert_null(segment_find(&s, SEGMENT_LEFT));
    assert_int_equal(segment_claim(&s, SEGMENT_LEFT, &again), STATE_ECORRUPT);
    assert_int_equal(atomic_load(&s.head->reach), 28);
    segment_detach(&reader);
    segment_detach(&s);
}

/* What is shared is input: a table without a free place ends a search. */
static void
a_table_filled_by_damage_does_not_hang(void **state)
{
    struct segment s = {0};
    void *slot;

    (void)state;
    assert_int_equal(make(&s, SEGMENT_STATUS, 28), STATE_OK);
    for (uint32_t i = 0; i < s.n_slots; i++)
        atomic_store(&s.id[i], 7);
    atomic_store(&s.head->slots_used, 0);
    assert_null(segment_find(&s, 8));
    assert_int_equal(segment_claim(&s, 8, &slot), STATE_EFULL);
    segment_detach(&s);
}

struct claimer {
    struct segment *s;
    void *slot[1000];
};

static void *
claim_all(void *arg)
{
    struct claimer *c = arg;

    for (uint64_t i = 0; i < 1000; i++)
        if (segment_claim(c->s, (i + 1) * 0x9e3779b97f4a7c15ull, &c->slot[i]) !=
            STATE_OK)
            return NULL;
    return arg;
}

static void
threads_that_claim_one_id_share_a_slot(void **state)
{
    enum { THREADS = 4 };
    static struct claimer claimer[THREADS];
    struct segment s = {0};
    pthread_t thread[THREADS];
    void *good;

    (void)state;
    assert_int_equal(make(&s, SEGMENT_STATUS, 1000), STATE_OK);
    for (int t = 0; t < THREADS; t++) {
        claimer[t].s = &s;
        assert_int_equal(
            pthread_create(&thread[t], NULL, claim_all, &claimer[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(thread[t], &good);
        assert_non_null(good);
        assert_memory_equal(claimer[t].slot, claimer[0].slot,
                            sizeof claimer[0].slot);
    }
    assert_int_equal(atomic_load(&s.head->slots_used), 1000);
    segment_detach(&s);
}

/* ---- space ---- */

static void
a_full_tmpfs_is_an_error(void **state)
{
    struct segment s = {0};
    enum state_result r = STATE_OK;
    char fill[4096] = {0};
    uint64_t id;
    void *slot;
    int fd;

    (void)state;
    if (geteuid() != 0 ||
        mount("none", directory, "tmpfs", 0, "size=256k") != 0)
        skip();
    assert_int_equal(make(&s, SEGMENT_STATUS, 28000), STATE_ENOSPACE);
    assert_int_equal(fixture_count(directory, ".status.new-"), 0);
    assert_int_equal(make(&s, SEGMENT_STATUS, 4000), STATE_OK);

    fd = open(path_of("filler"), O_CREAT | O_WRONLY, 0600);
    while (write(fd, fill, sizeof fill) == sizeof fill)
        continue;
    close(fd);
    for (id = 1; id <= 3500 && r == STATE_OK; id++) {
        r = segment_claim(&s, id, &slot);
        if (r == STATE_OK)
            memset(slot, 1, SLOT); /* what was claimed has memory */
    }
    assert_int_equal(r, STATE_ENOSPACE);
    assert_null(segment_find(&s, id - 1)); /* nothing half claimed */

    assert_int_equal(unlink(path_of("filler")), 0);
    assert_int_equal(segment_claim(&s, id - 1, &slot), STATE_OK);
    segment_detach(&s);
    assert_int_equal(umount(directory), 0);
}

/* ---- waiting ---- */

static void *
wake_soon(void *arg)
{
    struct timespec t = {0, 50000000};

    nanosleep(&t, NULL);
    segment_wake(arg);
    return NULL;
}

static void
a_reader_waits_on_its_read_only_mapping(void **state)
{
    struct segment s = {0}, reader = {0};
    uint64_t start_ms;
    pthread_t thread;
    uint32_t seen;

    (void)state;
    assert_int_equal(make(&s, SEGMENT_STATUS, 20), STATE_OK);
    assert_int_equal(attach(&reader, SEGMENT_STATUS, false), STATE_OK);
    seen = segment_wake_count(&reader);
    start_ms = clock_boot_ms(&clock_real);
    segment_wait(&reader, seen, 30);
    assert_true(clock_boot_ms(&clock_real) - start_ms >= 20); /* no error */
    segment_wait(&reader, seen, 0);
    assert_int_equal(pthread_create(&thread, NULL, wake_soon, &s), 0);
    start_ms = clock_boot_ms(&clock_real);
    while (segment_wake_count(&reader) == seen)
        segment_wait(&reader, seen, 60000);
    assert_true(clock_boot_ms(&clock_real) - start_ms < 30000);
    pthread_join(thread, NULL);
    segment_wait(&reader, seen, 60000); /* differs already: at once */
    segment_detach(&reader);
    segment_detach(&s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_kind_is_made_and_attached),
        TEST(results_and_kinds_have_names),
        TEST(absent_is_absent),
        TEST(absurd_sizes_are_refused),
        TEST(a_symbolic_link_is_refused),
        TEST(what_is_no_regular_file_is_refused),
        TEST(loose_modes_are_refused),
        TEST(a_directory_of_its_own_says_who_may_read),
        TEST(the_owner_of_its_own_directory_is_trusted),
        TEST(a_strangers_file_is_refused),
        TEST(a_cut_file_is_refused_at_any_length),
        TEST(each_flipped_bit_of_the_sizes_is_noticed),
        TEST(another_kind_or_version_is_told_apart),
        TEST(one_maker_at_a_time),
        TEST(the_lock_ends_with_the_process),
        TEST(leftovers_of_a_dead_maker_are_swept),
        TEST(a_segment_that_was_not_installed_leaves_nothing),
        TEST(the_first_stays),
        TEST(the_old_one_is_retired),
        TEST(another_layout_is_refused_and_replaced),
        TEST(a_removed_file_is_good_until_replaced),
        TEST(an_attachment_comes_over_by_itself),
        TEST(ids_are_claimed_once_and_found),
        TEST(who_comes_takes_the_place_of_one_who_has_left),
        TEST(a_table_filled_by_damage_does_not_hang),
        TEST(threads_that_claim_one_id_share_a_slot),
        TEST(a_full_tmpfs_is_an_error),
        TEST(a_reader_waits_on_its_read_only_mapping),
    };

    return cmocka_run_group_tests_name("state/segment", tests, NULL, NULL);
}
