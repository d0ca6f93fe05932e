/* milter/base/conf_secret.c - reading a secret file: see conf.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIAL "credential:"

static bool
is_credential(const char *configured)
{
    return strncmp(configured, CREDENTIAL, strlen(CREDENTIAL)) == 0;
}

bool
conf_secret_path(const char *configured, char ret[CONF_PATH_MAX], char *err,
                 size_t err_size)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    int n;

    if (!is_credential(configured)) {
        n = snprintf(ret, CONF_PATH_MAX, "%s", configured);
    } else if (directory == NULL || directory[0] != '/') {
        snprintf(err, err_size,
                 "%s: this process was given no credentials; want "
                 "LoadCredential=%s:PATH in the service's unit",
                 configured, configured + strlen(CREDENTIAL));
        return false;
    } else {
        n = snprintf(ret, CONF_PATH_MAX, "%s/%s", directory,
                     configured + strlen(CREDENTIAL));
    }
    if (n > 0 && n < CONF_PATH_MAX)
        return true;
    snprintf(err, err_size, "%.100s...: the path is too long", configured);
    return false;
}

static int
open_secret(const char *path, char *err, size_t err_size)
{
    /* Not blocking, so that a FIFO put in our way does not stop us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 && errno == EACCES)
        snprintf(err, err_size,
                 "%s: user id %u may not read it; \"chown %u %s\" helps", path,
                 (unsigned)geteuid(), (unsigned)geteuid(), path);
    else if (fd < 0)
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
    return fd;
}

/* Who else could read or change it?  Looks at the open file itself, so that
 * nobody can put another in its place meanwhile; a symbolic link may lead to
 * it, as service managers do with credentials. */
static bool
is_private(int fd, const char *path, bool credential, size_t max, char *err,
           size_t err_size)
{
    struct stat st;
    unsigned mode;

    if (fstat(fd, &st) != 0) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        return false;
    }
    mode = st.st_mode & 07777;
    if (!S_ISREG(st.st_mode))
        snprintf(err, err_size, "%s: not a regular file", path);
    else if (st.st_uid != 0 && st.st_uid != geteuid())
        snprintf(err, err_size,
                 "%s: owned by user id %u, want root or %u; \"chown %u %s\" "
                 "helps",
                 path, (unsigned)st.st_uid, (unsigned)geteuid(),
                 (unsigned)geteuid(), path);
    else if (mode != 0600 && mode != 0400 &&
             /* What looks like the group's is the mask of an access list that
              * names the service's user alone. */
             !(credential && mode == 0440 && st.st_gid == 0))
        snprintf(err, err_size,
                 "%s: mode %04o, want 0600 or 0400; \"chmod 0600 %s\" helps",
                 path, mode, path);
    else if (st.st_size > 0 && (size_t)st.st_size > max)
        snprintf(err, err_size, "%s: %lld octets, at most %zu are expected",
                 path, (long long)st.st_size, max);
    else
        return true;
    return false;
}

/* Reads until the end or `size` octets; -1 with errno. */
static ssize_t
read_up_to(int fd, char *to, size_t size)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, to + len, size - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

/* What is wrong with the octets of a secret file; NULL = nothing. */
static const char *
unfit(size_t read, size_t max, struct slice trimmed)
{
    if (read > max)
        return "too long to be what is wanted here";
    if (trimmed.len == 0)
        return "empty; put the secret in it";
    if (memchr(trimmed.at, '\0', trimmed.len) != NULL)
        return "a NUL octet in it; want a text file";
    return NULL;
}

bool
conf_secret(const char *configured, size_t max, char **ret, size_t *ret_len,
            char *err, size_t err_size)
{
    char path[CONF_PATH_MAX];
    int fd = conf_secret_path(configured, path, err, err_size)
                 ? open_secret(path, err, err_size)
                 : -1;
    char *all = NULL, *copy = NULL;
    const char *why = "out of memory";
    struct slice trimmed;
    ssize_t n;

    if (fd < 0)
        return false;
    if (!is_private(fd, path, is_credential(configured), max, err, err_size)) {
        close(fd);
        return false;
    }
    all = malloc(max + 1);
    if (all == NULL)
        goto done;
    n = read_up_to(fd, all, max + 1);
    if (n < 0) {
        why = strerror(errno);
        goto done;
    }
    trimmed = slice_trim((struct slice){all, (size_t)n});
    why = unfit((size_t)n, max, trimmed);
    if (why != NULL)
        goto done;
    copy = malloc(trimmed.len + 1);
    if (copy == NULL) {
        why = "out of memory";
        goto done;
    }
    memcpy(copy, trimmed.at, trimmed.len);
    copy[trimmed.len] = '\0';
    *ret = copy;
    *ret_len = trimmed.len;

done:
    if (copy == NULL)
        snprintf(err, err_size, "%s: %s", path, why);
    if (all != NULL)
        explicit_bzero(all, max + 1);
    free(all);
    close(fd);
    return copy != NULL;
}

void
conf_secret_free(char *secret, size_t len)
{
    if (secret == NULL)
        return;
    explicit_bzero(secret, len);
    free(secret);
}
