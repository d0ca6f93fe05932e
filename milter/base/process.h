/* milter/base/process.h - what every daemon does at start and end.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SIGTERM and SIGINT: stop; SIGHUP: reload.  Blocks them in this and all
 * later threads and delivers them through a descriptor that becomes readable.
 * SIGPIPE is ignored.  Returns the descriptor, -1 with errno. */
int process_signals(void);

enum process_event { PROCESS_NONE, PROCESS_STOP, PROCESS_RELOAD };

/* Reads one event from that descriptor, without blocking. */
enum process_event process_event(int fd);

/* No core dumps of a process that holds secrets (PR_SET_DUMPABLE,
 * RLIMIT_CORE). */
void process_no_core(void);

/* Which boot of the machine this is (proc_sys_kernel(5), boot_id), as two
 * halves; 0, 0 when the kernel does not say. */
void process_boot_id(uint64_t ret[2]);

/* Raises the soft limit of open files to the hard one. */
void process_raise_files(void);

#endif
