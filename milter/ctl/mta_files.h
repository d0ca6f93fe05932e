/* milter/ctl/mta_files.h - files of Postfix's directory, replaced together or
 * not at all, with a copy of what was there.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A backup is a directory with two in it: "before" has the files as they were
 * (one that is not there did not exist), "after" as they were made.
 */
#ifndef CTL_MTA_FILES_H
#define CTL_MTA_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "policy/slice.h"

enum { MTA_FILES = 4, MTA_FILE_MAX = 4 << 20 /* octets */ };

/* In the order in which they are replaced: main.cf, which makes Postfix look
 * at the others, comes last. */
extern const char *const mta_file_names[MTA_FILES];

struct mta_file {
    bool exists;
    char *text;
    size_t len;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

/* Reads directory/name; one that does not exist is no error.  To be freed. */
bool mta_file_read(const char *directory, const char *name,
                   struct mta_file *ret, char *err, size_t err_size);
void mta_file_free(struct mta_file *f);
bool mta_file_same(const struct mta_file *a, const struct mta_file *b);

/* Writes a file where none is; with `sync`, waits for the disk. */
bool mta_file_write(const char *directory, const char *name,
                    const struct mta_file *f, bool sync, char *err,
                    size_t err_size);

/* Puts `to` in place of `from`, which is what directory has now, all four or
 * none, and first writes both to a new directory below
 * directory/gmroute-backup, whose path goes into ret_backup (NULL: no backup
 * is made).  Mode and owner are those of *to; a link stays one, and what it
 * leads to is replaced. */
bool mta_files_replace(const char *directory,
                       const struct mta_file from[MTA_FILES],
                       const struct mta_file to[MTA_FILES], char *ret_backup,
                       size_t backup_size, char *err, size_t err_size);

/* The newest backup that was not undone.  False: there is none. */
bool mta_backup_newest(const char *directory, char *ret, size_t size);
/* Marks it undone, so that the one before is the newest. */
bool mta_backup_done(const char *backup, char *err, size_t err_size);

/* Nobody else changes the files meanwhile; ends with the process.  -1 with a
 * sentence in err. */
int mta_files_lock(const char *directory, char *err, size_t err_size);

#endif
