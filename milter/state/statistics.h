/* milter/state/statistics.h - how long things took, and what Gmail replied:
 * counters in the words of a segment's head.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each word is an atomic of its own: a reader may see a count and not yet the
 * sum.  The words are part of the shared layout.
 */
#ifndef STATE_STATISTICS_H
#define STATE_STATISTICS_H

#include <stdatomic.h>
#include <stdint.h>

/* ---- times ---- */

enum {
    LATENCY_BOUNDS = 13,
    /* One for each bound, one for what is above the last, and the sum. */
    LATENCY_WORDS = LATENCY_BOUNDS + 2,
};

/* 10, 20, 50, 100 ... 100,000: microseconds of a decision, milliseconds of a
 * delivery.  What took just so long is within the bound. */
extern const uint32_t latency_bound[LATENCY_BOUNDS];

void latency_count(_Atomic uint64_t word[LATENCY_WORDS], uint64_t took);

/* ---- reply codes ---- */

enum { REPLY_CODES = 16 };

/* Those of Gmail (gmail.md 5) and the likes of it; the last two are 0 and
 * UINT16_MAX: there was no reply, and any other code. */
extern const uint16_t reply_codes[REPLY_CODES];

void reply_code_count(_Atomic uint64_t word[REPLY_CODES], uint16_t code);

#endif
