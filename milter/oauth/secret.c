/* milter/oauth/secret.c - see secret.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "milter/base/conf.h"
#include "milter/oauth/oauth2.h"
#include "milter/oauth/wipe.h"

enum { PATH_ROOM = 512, HEX_LEN = 2 * SECRET_DIGEST };

void
refresh_token_free(struct refresh_token *t)
{
    wipe_free(t->text);
    *t = (struct refresh_token){NULL, {0}};
}

static bool
look_at(const char *configured, struct stat *ret)
{
    char path[CONF_PATH_MAX], err[300];

    return conf_secret_path(configured, path, err, sizeof err) &&
           stat(path, ret) == 0;
}

uint64_t
secret_stamp(const char *path)
{
    struct stat st;
    uint64_t h;

    if (!look_at(path, &st))
        return 0;
    h = (uint64_t)st.st_ctim.tv_sec * 1000000007u + (uint64_t)st.st_ino;
    h = h * 1000000007u + (uint64_t)st.st_ctim.tv_nsec;
    h = h * 1000000007u + (uint64_t)st.st_size;
    return h != 0 ? h : 1;
}

int64_t
secret_written_s(const char *path)
{
    struct stat st;

    return look_at(path, &st) ? (int64_t)st.st_mtim.tv_sec : 0;
}

static bool
rotated_path(const char *directory, uint64_t account, char ret[PATH_ROOM],
             char *err, size_t err_size)
{
    int n = snprintf(ret, PATH_ROOM, "%s/tokens/%016" PRIx64 ".token",
                     directory, account);

    if (n > 0 && n < PATH_ROOM)
        return true;
    snprintf(err, err_size, "%s: the path is too long", directory);
    return false;
}

uint64_t
secret_rotated_stamp(const char *directory, uint64_t account)
{
    char path[PATH_ROOM], err[PATH_ROOM];

    return rotated_path(directory, account, path, err, sizeof err)
               ? secret_stamp(path)
               : 0;
}

/* ---- reading ---- */

static bool
set_text(struct refresh_token *t, const char *text, char *err, size_t err_size)
{
    t->text = wipe_strdup(text);
    if (t->text == NULL)
        snprintf(err, err_size, "out of memory");
    return t->text != NULL;
}

static bool
read_configured(const char *path, struct refresh_token *ret, char *err,
                size_t err_size)
{
    char *text;
    size_t len;
    bool ok = false;

    if (!conf_secret(path, SECRET_MAX, &text, &len, err, err_size))
        return false;
    if (!oauth2_refresh_token_ok(text))
        snprintf(err, err_size, "%s: want one line, a refresh token alone",
                 path);
    else if (EVP_Digest(text, len, ret->origin, NULL, EVP_sha256(), NULL) != 1)
        snprintf(err, err_size, "out of memory");
    else
        ok = set_text(ret, text, err, err_size);
    conf_secret_free(text, len);
    return ok;
}

static void
to_hex(const uint8_t digest[SECRET_DIGEST], char ret[HEX_LEN + 1])
{
    for (unsigned i = 0; i < SECRET_DIGEST; i++)
        snprintf(ret + (size_t)2 * i, 3, "%02x", digest[i]);
}

/* What a file of ours holds: two lines, token and origin in hexadecimal.
 * ret->text stays NULL when its origin is not the one in ret. */
static bool
read_rotated(const char *path, struct refresh_token *ret, char *err,
             size_t err_size)
{
    char hex[HEX_LEN + 1], *text, *line;
    size_t len;
    bool ok = false;

    if (!conf_secret(path, SECRET_MAX, &text, &len, err, err_size))
        return false;
    line = strchr(text, '\n');
    if (line != NULL)
        *line++ = 0;
    to_hex(ret->origin, hex);
    if (line == NULL || strlen(line) != HEX_LEN ||
        strspn(line, "0123456789abcdef") != HEX_LEN ||
        !oauth2_refresh_token_ok(text))
        snprintf(err, err_size,
                 "%s: not as gmroute-token writes it; move it away and use "
                 "gmroutectl login",
                 path);
    else
        ok = strcmp(line, hex) != 0 || set_text(ret, text, err, err_size);
    conf_secret_free(text, len);
    return ok;
}

bool
secret_refresh_token(const char *directory, uint64_t account,
                     const char *configured,
                     const struct refresh_token *unsaved,
                     struct refresh_token *ret, char *err, size_t err_size)
{
    struct refresh_token first = {NULL, {0}}, rotated = {NULL, {0}};
    char path[PATH_ROOM];
    bool ok = false;

    if (!rotated_path(directory, account, path, err, err_size) ||
        !read_configured(configured, &first, err, err_size))
        return false;
    memcpy(rotated.origin, first.origin, SECRET_DIGEST);
    if (unsaved->text != NULL &&
        memcmp(unsaved->origin, first.origin, SECRET_DIGEST) == 0) {
        ok = set_text(&rotated, unsaved->text, err, err_size);
    } else {
        ok = (access(path, F_OK) != 0 && errno == ENOENT) ||
             read_rotated(path, &rotated, err, err_size);
    }
    if (!ok || rotated.text != NULL) {
        refresh_token_free(&first);
        first = rotated;
    }
    if (ok)
        *ret = first;
    return ok;
}

/* ---- writing ---- */

static bool
fsync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;
    bool ok = fd >= 0 && fsync(fd) == 0;

    error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return ok;
}

bool
secret_write(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

struct owner {
    uid_t user;
    gid_t group;
};

/* Two texts as one new file, for its owner alone.  What a crash left under
 * this name is in the way. */
static bool
write_new(const char *path, const char *text, const char *tail,
          const struct owner *owner)
{
    int fd, error;
    bool ok;

    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    ok = (owner == NULL || fchown(fd, owner->user, owner->group) == 0) &&
         secret_write(fd, text, strlen(text)) &&
         secret_write(fd, tail, strlen(tail)) && fsync(fd) == 0;
    error = errno;
    close(fd);
    errno = error;
    return ok;
}

/* New file, rename, fsync of the folder: whoever reads finds one or the other,
 * whole. */
static bool
replace(const char *path, const char *text, const char *tail,
        const struct owner *owner)
{
    char fresh[PATH_MAX + 8], folder[PATH_MAX + 8];
    const char *slash = strrchr(path, '/');
    int error;

    snprintf(fresh, sizeof fresh, "%s.new", path);
    snprintf(folder, sizeof folder, "%.*s",
             slash == NULL ? 1 : (int)(slash - path) + 1,
             slash == NULL ? "." : path);
    if (!write_new(fresh, text, tail, owner) || rename(fresh, path) != 0) {
        error = errno;
        unlink(fresh);
        errno = error;
        return false;
    }
    return fsync_directory(folder);
}

/* The folder for what is ours. */
static bool
make_folder(const char *directory)
{
    char folder[PATH_ROOM];

    snprintf(folder, sizeof folder, "%s/tokens", directory);
    return mkdir(folder, 0700) == 0 ? fsync_directory(directory)
                                    : errno == EEXIST;
}

static bool
store(const char *directory, const char *path, const char *text,
      const char *tail, char *err, size_t err_size)
{
    if (make_folder(directory) && replace(path, text, tail, NULL))
        return true;
    snprintf(err, err_size, "%s: %s", path, strerror(errno));
    return false;
}

bool
secret_replace(const char *directory, const char *path, const char *text,
               char *err, size_t err_size)
{
    return store(directory, path, text, "", err, err_size);
}

bool
secret_store(const char *directory, uint64_t account,
             const struct refresh_token *t, char *err, size_t err_size)
{
    char path[PATH_ROOM], tail[HEX_LEN + 3] = "\n";

    if (!rotated_path(directory, account, path, err, err_size))
        return false;
    to_hex(t->origin, tail + 1);
    memcpy(tail + 1 + HEX_LEN, "\n", 2);
    return store(directory, path, t->text, tail, err, err_size);
}

bool
secret_install(const char *path, const char *token, uid_t user, gid_t group,
               char *err, size_t err_size)
{
    struct owner owner = {user, group};
    char *real = realpath(path, NULL);
    bool ok;

    /* A link stays one: it is where it leads to that is replaced. */
    if (real == NULL && errno == ENOENT)
        real = strdup(path);
    ok = real != NULL && strlen(real) < PATH_MAX &&
         replace(real, token, "\n", &owner);
    if (!ok)
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
    free(real);
    return ok;
}
