/* milter/state/attachment.h - a mapping that finds its way back when the maker
 * restarts.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Attaches when it is first needed, and again when the file was replaced: the
 * retired mark is looked at on every use, the path once a second.  Mappings
 * are counted, so that a thread may go on reading an old one while another
 * thread attaches to the new.  Any thread.
 */
#ifndef STATE_ATTACHMENT_H
#define STATE_ATTACHMENT_H

#include "milter/state/segment.h"

struct attachment;

struct mapping { /* one attached file */
    struct segment segment;
    uint64_t number; /* 1, 2, ... by this attachment */
    unsigned refs;   /* under the attachment's lock */
};

/* NULL = out of memory.  slot_size as segment_attach. */
struct attachment *attachment_new(const char *directory, enum segment_kind kind,
                                  uint32_t slot_size, bool writable);
void attachment_free(struct attachment *a); /* nobody holds a mapping */

/* The current mapping, to be put back; or why there is none, into err (which
 * may be NULL). */
enum state_result attachment_get(struct attachment *a, struct mapping **ret,
                                 char *err, size_t err_size);
void attachment_put(struct attachment *a, struct mapping *m);

/* Forgets the current mapping, so that the next get attaches anew. */
void attachment_drop(struct attachment *a);

#endif
