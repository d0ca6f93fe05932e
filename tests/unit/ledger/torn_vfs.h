/* tests/unit/ledger/torn_vfs.h - a disk that can be full, broken, slow, or
 * lose its power.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A SQLite VFS over the system's one, made the default by torn_vfs_install().
 * It counts fsyncs, refuses what it is told to, and remembers for each file
 * what was written since its last fsync: that is what a power cut may lose,
 * any part of it, in any order.
 */
#ifndef TESTS_LEDGER_TORN_VFS_H
#define TESTS_LEDGER_TORN_VFS_H

#include <stdbool.h>
#include <stdint.h>

void torn_vfs_install(void);

/* From now on: 0 = works; otherwise SQLite's code for every such call. */
void torn_vfs_fail_writes(int rc);
void torn_vfs_fail_syncs(int rc);
/* Every fsync takes so long. */
void torn_vfs_slow_syncs(unsigned ms);

uint64_t torn_vfs_wal_syncs(void); /* of -wal files, since the start */

/* Forgets what is known of files (new test, new directory). */
void torn_vfs_forget(void);

/* Writes into `to` what the disk holds of ledger.db and its WAL when the
 * power goes now: all that was fsynced, and of each later write either all,
 * or nothing, as `seed` decides (0: nothing of them). */
bool torn_vfs_power_cut(const char *from, const char *to, unsigned seed);

#endif
