/* milter/base/place.c - see place.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/place.h"

#include <stdio.h>
#include <sys/stat.h>

bool
place_of(const char *directory, const char *name, char *ret, size_t size,
         bool *ret_own)
{
    struct stat st;
    int n = snprintf(ret, size, "%s/%s", directory, name);
    bool fits = n > 0 && (size_t)n < size;
    bool own = fits && stat(ret, &st) == 0 && S_ISDIR(st.st_mode);

    if (!own)
        snprintf(ret, size, "%s", directory);
    if (ret_own != NULL)
        *ret_own = own;
    return fits;
}
