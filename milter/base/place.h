/* milter/base/place.h - where a file of the state or runtime directory lies,
 * and so who may write and read it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Where one user runs everything, all files lie side by side.  Where each
 * daemon has a user of its own, root has made a directory for each of them:
 * <directory>/quota/quota in place of <directory>/quota.  Its owner writes the
 * file, its group reads it, and nobody who cannot write <directory> can put
 * another one in its place.  So no configuration names users or groups.
 */
#ifndef BASE_PLACE_H
#define BASE_PLACE_H

#include <stdbool.h>
#include <stddef.h>

/* The directory that `name` lies in: <directory>/<name> where that is a
 * directory, else <directory> itself; *ret_own (may be NULL) says which.  False
 * when the longer of them does not fit into ret. */
bool place_of(const char *directory, const char *name, char *ret, size_t size,
              bool *ret_own);

#endif
