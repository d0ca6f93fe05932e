/* milter/ctl/postconf.h - a Postfix's live settings, as data.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Reading runs postconf(1) and postmap(1); parsing and looking up are pure.
 * Values are expanded ($name is replaced), lists are as they are written.
 */
#ifndef CTL_POSTCONF_H
#define CTL_POSTCONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/arena.h"
#include "policy/slice.h"

struct mta_parameter { /* main.cf, defaults too */
    const char *name, *value;
    bool is_set; /* in main.cf; else it is Postfix's default */
};

struct mta_service { /* a line of master.cf */
    const char *name, *type;
    const char *key; /* "name/type" */
    bool is_chrooted;
    bool has_maxproc;    /* false: default_process_limit */
    unsigned maxproc;    /* 0 = no limit */
    const char *command; /* without its words */
};

struct mta_override {                   /* -o of a service */
    const char *service, *name, *value; /* service: "name/type" */
};

struct mta_settings {
    struct arena *arena;
    const char *directory; /* of main.cf */
    bool is_default;       /* the directory that Postfix's programs use when
                            * they are not told one */
    unsigned major, minor; /* of Postfix */
    size_t n_main, n_services, n_overrides;
    struct mta_parameter *main;
    struct mta_service *services;
    struct mta_override *overrides;
    const char *map_types; /* "hash\npcre\n..." */
};

/* ---- reading ---- */

enum { POSTCONF_TIMEOUT_MS = 15000 };

/* directory NULL = Postfix's own.  NULL with a sentence in err. */
struct mta_settings *postconf_read(const char *directory, char *err,
                                   size_t err_size);
void postconf_free(struct mta_settings *s); /* takes NULL */

/* postconf with these words, at most 8, NULL-terminated, on a directory (NULL =
 * Postfix's own); what it prints, without the new line at the end. */
bool postconf_words(struct arena *a, const char *directory,
                    const char *const *words, const char **ret, char *err,
                    size_t err_size);

/* Asks a table ("type:name") for keys, NULL-terminated, at most
 * POSTCONF_KEYS; ret[i] is the answer, NULL = not found.  False: it cannot be
 * asked, and err says why. */
enum { POSTCONF_KEYS = 64 };
bool postconf_ask(const struct mta_settings *s, const char *map,
                  const char *const *keys, const char **ret, char *err,
                  size_t err_size);

/* ---- parsing, pure; false = out of memory ---- */

/* `postconf -x`, `postconf -n` (after it), `postconf -M`, `postconf -Px`, as they are printed. */
bool postconf_parse_main(struct mta_settings *s, const char *text);
bool postconf_parse_set(struct mta_settings *s, const char *text);
bool postconf_parse_services(struct mta_settings *s, const char *text);
bool postconf_parse_overrides(struct mta_settings *s, const char *text);

/* ---- looking up, pure ---- */

/* "" where there is none. */
const char *mta_main(const struct mta_settings *s, const char *name);
bool mta_is_set(const struct mta_settings *s, const char *name);
const struct mta_service *mta_service(const struct mta_settings *s,
                                      const char *key);
/* The -o of a service; NULL = it has none. */
const char *mta_override(const struct mta_settings *s, const char *key,
                         const char *name);
/* What a service goes by: its -o, else main.cf. */
const char *mta_effective(const struct mta_settings *s, const char *key,
                          const char *name);
bool mta_has_map_type(const struct mta_settings *s, struct slice type);

/* The next entry of a list: words between commas and white space; what stands
 * in braces is one.  False at the end. */
bool mta_list_next(struct slice *rest, struct slice *ret);
/* A whole number at the start of a value; -1 = none. */
int64_t mta_number(const char *value);
/* A time ("5d", "100s", bare seconds) in seconds; -1 = none. */
int64_t mta_seconds(const char *value);
/* How many lines a text may have. */
size_t mta_count_lines(const char *text);

/* A word as a shell reads it, in quotes where it needs them. */
const char *mta_quote(struct arena *a, const char *word);

#endif
