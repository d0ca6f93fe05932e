/* policy/scalar.c - see scalar.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/scalar.h"

#include <inttypes.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400 * 1000}, {"h", 3600 * 1000}, {"m", 60 * 1000},
    {"s", 1000},         {"ms", 1},          {NULL, 0},
};

/* Larger first, for scalar_show_size. */
static const struct unit sizes[] = {
    {"TiB", 1ull << 40},
    {"TB", 1000ull * 1000 * 1000 * 1000},
    {"GiB", 1 << 30},
    {"GB", 1000 * 1000 * 1000},
    {"MiB", 1 << 20},
    {"MB", 1000 * 1000},
    {"KiB", 1 << 10},
    {"KB", 1000},
    {"B", 1},
    {NULL, 0},
};

/* Takes the digits at the start off *s. */
static enum scalar_result
take_digits(struct slice *s, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < s->len && s->at[i] >= '0' && s->at[i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(s->at[i] - '0');

        if (n > (UINT64_MAX - digit) / 10)
            return SCALAR_ERANGE;
        n = n * 10 + digit;
    }
    if (i == 0)
        return SCALAR_ESYNTAX;
    *s = slice_from(*s, i);
    *ret = n;
    return SCALAR_OK;
}

enum scalar_result
scalar_number(struct slice s, uint64_t *ret)
{
    uint64_t n = 0;
    enum scalar_result r = take_digits(&s, &n);

    if (r == SCALAR_OK && s.len > 0)
        r = SCALAR_ESYNTAX;
    if (r == SCALAR_OK)
        *ret = n;
    return r;
}

/* A number and its unit; bare: the factor without a unit, 0 = it needs one. */
static enum scalar_result
with_unit(struct slice s, const struct unit *unit, uint64_t bare, uint64_t *ret)
{
    uint64_t n = 0, factor = 0;
    enum scalar_result r = take_digits(&s, &n);

    if (r != SCALAR_OK)
        return r;
    if (s.len > 0 && s.at[0] == ' ')
        s = slice_from(s, 1);
    if (s.len == 0)
        factor = n == 0 ? 1 : bare;
    for (; s.len > 0 && unit->name != NULL; unit++)
        if (slice_eq_nocase(s, slice_of(unit->name)))
            factor = unit->factor;
    if (factor == 0)
        return SCALAR_EUNIT;
    if (n > UINT64_MAX / factor)
        return SCALAR_ERANGE;
    *ret = n * factor;
    return SCALAR_OK;
}

enum scalar_result
scalar_duration(struct slice s, uint64_t *ret_ms)
{
    return with_unit(s, durations, 0, ret_ms);
}

enum scalar_result
scalar_size(struct slice s, uint64_t *ret_octets)
{
    return with_unit(s, sizes, 1, ret_octets);
}

enum scalar_result
scalar_percent(struct slice s, uint64_t *ret)
{
    if (s.len > 0 && s.at[s.len - 1] == '%')
        s.len--;
    return scalar_number(s, ret);
}

static const char *
show(uint64_t n, const struct unit *unit, char ret[SCALAR_TEXT])
{
    while (n % unit->factor != 0)
        unit++;
    snprintf(ret, SCALAR_TEXT, "%" PRIu64 "%s", n / unit->factor, unit->name);
    return ret;
}

const char *
scalar_show_duration(uint64_t ms, char ret[SCALAR_TEXT])
{
    return ms != 0 ? show(ms, durations, ret) : "0s";
}

const char *
scalar_show_size(uint64_t octets, char ret[SCALAR_TEXT])
{
    return octets != 0 ? show(octets, sizes, ret) : "0B";
}
