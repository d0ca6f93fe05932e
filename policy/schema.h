/* policy/schema.h - the keys of a map as rows: key, type, range, default.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Whoever wants to know what a configuration may hold
 * (the manual's check, `gmroutectl`) begins at schema_top and follows `sub`.
 */
#ifndef POLICY_SCHEMA_H
#define POLICY_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"
#include "policy/slice.h"

struct compile; /* policy/compile.h */
struct node;    /* policy/tree.h */
struct schema_row;

/* Reads a value into the field of the row.  False: an error was recorded;
 * the field is as it was, or holds something harmless. */
typedef bool (*schema_reader)(struct compile *c, const struct schema_row *row,
                              const struct node *n, void *field);

struct schema_type {
    const char *form; /* as errors and the manual say it: "a duration" */
    schema_reader read;
};

enum schema_need {
    SCHEMA_OPTIONAL,
    SCHEMA_REQUIRED,
};

struct schema_row {
    const char *key;
    const struct schema_type *type;
    size_t offset, size; /* of the field in the object */
    enum schema_need need;
    uint64_t min, max;        /* both 0 = none; ms, octets or what it counts */
    const char *words;        /* schema_word: "a|b|c", read as 0, 1, 2 */
    const char *unset;        /* the default, as YAML would have it */
    const struct schema *sub; /* the keys of the map, or of each entry */
    const char *help;         /* one line */
};

struct schema {
    const char *name; /* what the map is: "a smarthost" */
    const struct schema_row *row;
    size_t n;
};

/* For a row: where the field is. */
#define SCHEMA_AT(type, member)              \
    .offset = offsetof(struct type, member), \
    .size = sizeof(((struct type *)NULL)->member)

#define SCHEMA(what, rows)                                            \
    {                                                                 \
        .name = what, .row = rows, .n = sizeof(rows) / sizeof *(rows) \
    }

extern const struct schema schema_top;

/* ---- types; the field in brackets ---- */

extern const struct schema_type schema_text;     /* (const char *) */
extern const struct schema_type schema_word;     /* (an enum or unsigned) */
extern const struct schema_type schema_yes_no;   /* (bool) */
extern const struct schema_type schema_number;   /* (any unsigned integer) */
extern const struct schema_type schema_duration; /* (uint64_t, ms) */
extern const struct schema_type schema_size;     /* (uint64_t, octets) */
extern const struct schema_type schema_percent;  /* (unsigned) */
extern const struct schema_type schema_path;     /* (const char *, absolute) */
/* (const char *: absolute, or "credential:NAME" as it stands: base/conf.h) */
extern const struct schema_type schema_secret_file;
extern const struct schema_type schema_ca_file; /* the same, NULL = system */
extern const struct schema_type schema_map;     /* (the object of `sub`) */

/* Reads all rows into the object.  n NULL: nothing was given, so the defaults
 * are taken, and `at` is where required keys are missed.  Goes on after
 * errors; false = there was one. */
bool schema_read(struct compile *c, const struct schema *s,
                 const struct node *n, struct loc at, void *object);

/* The row of a key; NULL = it has none. */
const struct schema_row *schema_row(const struct schema *s, struct slice key);

/* "x: want <form>, found <what is there>".  Always false. */
bool schema_mismatch(struct compile *c, const struct schema_row *row,
                     const struct node *n);

#endif
