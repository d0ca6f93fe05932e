/* tests/unit/state/fixture.h - a directory, a clock and a policy for the state
 * tests.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_STATE_FIXTURE_H
#define TESTS_STATE_FIXTURE_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "policy/policy.h"

#define HOUR_MS 3600000ull
#define DAY_MS  (24 * HOUR_MS)

/* ---- a directory on tmpfs, with nothing in it ---- */

static inline void
fixture_directory(char *ret, size_t size)
{
    snprintf(ret, size, "%s/gmroute-state-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(ret) == NULL) {
        perror(ret);
        abort();
    }
}

/* Entries, hidden ones too. */
static inline unsigned
fixture_count(const char *directory, const char *prefix)
{
    DIR *d = opendir(directory);
    struct dirent *e;
    unsigned n = 0;

    if (d == NULL)
        return 0;
    while ((e = readdir(d)) != NULL)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

static inline void
fixture_remove(const char *directory)
{
    DIR *d = opendir(directory);
    struct dirent *e;

    if (d == NULL)
        return;
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(directory);
}

/* ---- a clock that stands still until it is told ---- */

static _Atomic uint64_t fixture_boot_ms = 1000;
static _Atomic int64_t fixture_wall_ms = 1772359200000; /* 2026-03-01 10:00 */

static inline uint64_t
fixture_read_boot(void *cookie)
{
    (void)cookie;
    return atomic_load(&fixture_boot_ms);
}

static inline int64_t
fixture_read_wall(void *cookie)
{
    (void)cookie;
    return atomic_load(&fixture_wall_ms);
}

static const struct clock fixture_clock = {fixture_read_boot, fixture_read_wall,
                                           NULL};

static inline void
fixture_pass(uint64_t ms)
{
    atomic_fetch_add(&fixture_boot_ms, ms);
    atomic_fetch_add(&fixture_wall_ms, (int64_t)ms);
}

/* ---- a policy with accounts and nothing else ---- */

enum { FIXTURE_ACCOUNTS = 3 };

struct fixture_policy {
    struct policy policy;
    struct smarthost smarthost;
    struct account account[FIXTURE_ACCOUNTS];
};

/* "sales" and "news" are named accounts, "staff" the template for
 * staff.example.com; all with the same limits. */
static inline void
fixture_policy(struct fixture_policy *f, const struct limit *limit, unsigned n)
{
    static const char *const name[] = {"sales", "news", "staff"};
    static const char *const address[] = {
        "sales@example.com", "news@example.com", "*@staff.example.com"};

    memset(f, 0, sizeof *f);
    f->smarthost.name = "gmail";
    f->policy.state.accounts = 50;
    f->policy.n_smarthosts = 1;
    f->policy.smarthosts = &f->smarthost;
    f->policy.n_accounts = FIXTURE_ACCOUNTS;
    f->policy.accounts = f->account;
    for (unsigned i = 0; i < FIXTURE_ACCOUNTS; i++) {
        struct account *a = &f->account[i];

        a->name = name[i];
        a->address = address[i];
        a->is_template = address[i][0] == '*';
        a->domain = strchr(address[i], '@') + 1;
        a->smarthost = &f->smarthost;
        a->quota.n = n;
        for (unsigned j = 0; j < n; j++)
            a->quota.limit[j] = limit[j];
        a->quota.recipients_per_message = 100;
    }
}

static inline struct mailbox
fixture_mailbox(const struct account *a, const char *address)
{
    struct mailbox m = {.account = a};
    char identity[IDENTITY_MAX + 1];

    snprintf(m.address, sizeof m.address, "%s", address);
    m.id = mailbox_identity(address, a->smarthost->name, identity);
    return m;
}

#endif
