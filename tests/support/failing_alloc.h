/* tests/support/failing_alloc.h - memory that runs out when a test says so.
 * SPDX-License-Identifier: Apache-2.0
 *
 * gm_failing_alloc(test) in CMake puts these in the place of the program's own
 * calls (the linker's --wrap); libraries and the C library keep theirs.
 */
#ifndef TESTS_FAILING_ALLOC_H
#define TESTS_FAILING_ALLOC_H

#define ALLOC_FOR_EVER (~0ul)

extern unsigned long alloc_left; /* allocations that still succeed */

#endif
