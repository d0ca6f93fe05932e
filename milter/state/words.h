/* milter/state/words.h - shared words: copy them, keep text in them, and the
 * sequence number around a group of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A reader in another process copies words while they may be written.  Each
 * is a relaxed atomic, so that nothing is undefined, and the sequence number
 * tells afterwards whether the copy belongs together: odd = a write is under
 * way.  A writer that died inside leaves it odd; the next writer of the slot
 * takes over from there.
 */
#ifndef STATE_WORDS_H
#define STATE_WORDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static inline uint64_t
words_get(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static inline void
words_set(_Atomic uint64_t *w, uint64_t v)
{
    atomic_store_explicit(w, v, memory_order_relaxed);
}

/* ---- the sequence number ---- */

/* One writer at a time, by the caller's lock. */
static inline void
words_write_begin(_Atomic uint32_t *seq)
{
    uint32_t n = atomic_load_explicit(seq, memory_order_relaxed);

    /* Odd already if the last writer died in here: take over. */
    atomic_store_explicit(seq, n | 1, memory_order_relaxed);
    /* Orders "odd" before the stores that follow. */
    atomic_thread_fence(memory_order_release);
}

static inline void
words_write_end(_Atomic uint32_t *seq)
{
    uint32_t n = atomic_load_explicit(seq, memory_order_relaxed) + 1;

    if (n == 0) /* 0 means "never written" */
        n = 2;
    atomic_store_explicit(seq, n, memory_order_release);
}

static inline uint32_t
words_read_begin(const _Atomic uint32_t *seq)
{
    return atomic_load_explicit(seq, memory_order_acquire);
}

/* Were the words read since then all of one write? */
static inline bool
words_read_good(const _Atomic uint32_t *seq, uint32_t begin)
{
    /* Orders the loads above before the check below. */
    atomic_thread_fence(memory_order_acquire);
    return (begin & 1) == 0 &&
           atomic_load_explicit(seq, memory_order_relaxed) == begin;
}

/* Waits a moment between two tries; false = enough, about 10 ms: the writer
 * is taken for dead. */
static inline bool
words_try_again(unsigned *tries)
{
    static const struct timespec half_ms = {0, 500000};
    enum { SPIN = 200, SLEEP = 20 };

    if (++*tries <= SPIN)
        return true;
    if (*tries > SPIN + SLEEP)
        return false;
    nanosleep(&half_ms, NULL); /* longer than most time slices in all */
    return true;
}

/* ---- groups of words ---- */

static inline void
words_copy(_Atomic uint64_t *to, const _Atomic uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        words_set(&to[i], words_get(&from[i]));
}

/* Text into n words: cut at a whole UTF-8 character if it is too long,
 * controls replaced, filled up with NULs, at least one. */
static inline void
words_put_text(_Atomic uint64_t *to, size_t n, const char *text)
{
    size_t len = strlen(text), max = n * 8 - 1;
    uint64_t word;

    if (len > max) {
        len = max;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    for (size_t i = 0; i < n; i++) {
        char part[8] = {0};

        for (size_t j = 0; j < 8 && i * 8 + j < len; j++) {
            unsigned char c = (unsigned char)text[i * 8 + j];

            part[j] = (char)(c < ' ' || c == 0x7f ? ' ' : c);
        }
        memcpy(&word, part, sizeof word);
        words_set(&to[i], word);
    }
}

/* The text in n words; false when it is no text: not ended within size, or a
 * control in it. */
static inline bool
words_get_text(const _Atomic uint64_t *from, size_t n, char *ret, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word = words_get(&from[i]);
        char part[8];

        memcpy(part, &word, sizeof part);
        for (size_t j = 0; j < 8; j++) {
            unsigned char c = (unsigned char)part[j];

            if (i * 8 + j >= size || (c != 0 && c < ' ') || c == 0x7f)
                return false;
            ret[i * 8 + j] = (char)c;
            if (c == 0)
                return true;
        }
    }
    return false;
}

#endif
