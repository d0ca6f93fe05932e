/* milter/base/parallel.h - one piece of work for all processors.
 * SPDX-License-Identifier: Apache-2.0
 *
 * For long work at a start: it ends before anything else begins.
 */
#ifndef BASE_PARALLEL_H
#define BASE_PARALLEL_H

enum { PARALLEL_MAX = 8 };

/* In how many parts: one for each processor, at most PARALLEL_MAX. */
unsigned parallel_parts(void);

/* Calls part(cookie, i, of) for each i below `of` (1..PARALLEL_MAX), in
 * threads; what no thread can be made for, here.  Returns when all are done. */
void parallel(unsigned of, void (*part)(void *cookie, unsigned i, unsigned of),
              void *cookie);

#endif
