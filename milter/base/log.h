/* milter/base/log.h - one line for each thing that happened.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A line is "key=value ..." in a fixed order, queue id first when there is
 * one.  log_kv quotes values that need it and replaces controls, so that a
 * stranger's bytes can never forge a line.  Goes to syslog (facility mail)
 * or standard error.  Any thread.
 *
 * Library code returns errors; only main() and the thin edges of a daemon
 * log, once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/slice.h"

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Call once, before threads.  program is borrowed for ever. */
void log_open(const char *program, enum log_target target,
              enum log_level level);

/* "error", "warning" (or "warn"), "info", "debug". */
bool log_level_parse(const char *text, enum log_level *ret);

bool log_on(enum log_level level);

/* Free text; a new line or a control character in it is replaced. */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line built pair by pair; a value, on the caller's stack.
 *
 *   struct log_line l = log_line(LOG_LEVEL_INFO);
 *   log_kv(&l, "queue", queue_id);
 *   log_kv_u64(&l, "size", size);
 *   log_end(&l);
 *
 * An empty value is left out.  A value with a space, '"', '=' or '\' is put
 * in double quotes, with \" and \\ inside.  Well-formed UTF-8 stays as it is.
 * What does not fit ends in "..." */
enum {
    LOG_LINE_MAX = 2000, /* octets, NUL included */
    LOG_VALUE_MAX = 500, /* so that one value cannot push out the others */
};

struct log_line {
    enum log_level level;
    bool on;
    bool full; /* later pairs are left out */
    unsigned len;
    char text[LOG_LINE_MAX];
};

struct log_line log_line(enum log_level level);
void log_kv(struct log_line *l, const char *key, const char *value);
void log_kv_slice(struct log_line *l, const char *key, struct slice value);
void log_kv_u64(struct log_line *l, const char *key, uint64_t value);
void log_end(struct log_line *l);

/* Tests: receives each line instead of the target; NULL ends it. */
void log_capture(void (*to)(enum log_level level, const char *line));

#endif
