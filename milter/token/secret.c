/* milter/token/secret.c - see secret.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "milter/base/conf.h"

enum { PATH_ROOM = 512 };

static bool
rotated_path(const char *directory, uint64_t account, char ret[PATH_ROOM])
{
    return snprintf(ret, PATH_ROOM, "%s/tokens/%016" PRIx64 ".token", directory,
                    account) < PATH_ROOM;
}

uint64_t
secret_stamp(const char *path)
{
    struct stat st;
    uint64_t h;

    if (stat(path, &st) != 0)
        return 0;
    h = (uint64_t)st.st_mtim.tv_sec * 1000000007u + (uint64_t)st.st_ino;
    h = h * 1000000007u + (uint64_t)st.st_mtim.tv_nsec;
    h = h * 1000000007u + (uint64_t)st.st_size;
    return h != 0 ? h : 1;
}

static bool
newer(const char *path, const char *than)
{
    struct stat a, b;

    if (stat(path, &a) != 0)
        return false;
    if (stat(than, &b) != 0)
        return true;
    return a.st_mtim.tv_sec != b.st_mtim.tv_sec
               ? a.st_mtim.tv_sec > b.st_mtim.tv_sec
               : a.st_mtim.tv_nsec >= b.st_mtim.tv_nsec;
}

bool
secret_refresh_token(const char *directory, uint64_t account,
                     const char *configured, char **ret, size_t *ret_len,
                     char *err, size_t err_size)
{
    char path[PATH_ROOM];

    if (rotated_path(directory, account, path) && newer(path, configured) &&
        conf_secret(path, SECRET_MAX, ret, ret_len, err, err_size))
        return true;
    return conf_secret(configured, SECRET_MAX, ret, ret_len, err, err_size);
}

static bool
fsync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool
write_new(const char *path, const char *text)
{
    int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    size_t len = strlen(text);
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

bool
secret_store_refresh_token(const char *directory, uint64_t account,
                           const char *token, char *err, size_t err_size)
{
    char folder[PATH_ROOM], path[PATH_ROOM], fresh[PATH_ROOM + 8];

    if (snprintf(folder, sizeof folder, "%s/tokens", directory) >= PATH_ROOM ||
        !rotated_path(directory, account, path)) {
        snprintf(err, err_size, "%s: path is too long", directory);
        return false;
    }
    snprintf(fresh, sizeof fresh, "%s.new", path);
    if ((mkdir(folder, 0700) != 0 && errno != EEXIST) ||
        !write_new(fresh, token) || rename(fresh, path) != 0 ||
        !fsync_directory(folder)) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        unlink(fresh);
        return false;
    }
    return true;
}
