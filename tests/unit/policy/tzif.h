/* tests/unit/policy/tzif.h - small TZif files as literals
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_POLICY_TZIF_H
#define TESTS_POLICY_TZIF_H

#define TZIF_N(n) "\0\0\0" n

/* Header with its counts of leap seconds, times and types; one octet of
 * names. */
#define TZIF_HEAD(version, leaps, times, types)                               \
    "TZif" version "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" TZIF_N("\0") TZIF_N("\0") \
        TZIF_N(leaps) TZIF_N(times) TZIF_N(types) TZIF_N("\1")

#define TZIF_TYPE(offset) offset "\0\0" /* four octets; no daylight */
#define TZIF_UTC_TYPE     TZIF_TYPE("\0\0\0\0")

/* What comes before the block of 64 bits: nothing of use. */
#define TZIF_OLD(version) \
    TZIF_HEAD(version, "\0", "\0", "\1") TZIF_UTC_TYPE "\0"

/* No transitions: the rule alone. */
#define TZIF_RULE(rule) TZIF_OLD("2") TZIF_OLD("2") "\n" rule "\n"

#endif
