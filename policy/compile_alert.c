/* policy/compile_alert.c - whom to tell when an account needs somebody.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

enum { WORDS_MAX = 16 };

/* "[program, word ...]" or "program".  The program is a path from the root: it
 * is run without a shell and without a search. */
static bool
read_command(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    struct items items = compile_items(n);
    char **word;

    if (n->kind == NODE_MAP || items.n == 0)
        return schema_mismatch(c, row, n);
    if (items.n > WORDS_MAX)
        return diag_error(c->diag, n->at, "%s: at most %d words", row->key,
                          WORDS_MAX);
    word = compile_alloc(c, items.n + 1, sizeof *word);
    for (size_t i = 0; word != NULL && i < items.n; i++) {
        const struct node *item = compile_item(&items, i);

        if (!compile_is_text(item) || compile_has_control(item->text))
            return diag_error(c->diag, item->at,
                              "%s: want a word without controls, found %s",
                              row->key, node_show(item).text);
        if (i == 0 && item->text.at[0] != '/')
            return diag_error(c->diag, item->at,
                              "%s: want the path of a program, from / on, "
                              "found %s; for a shell write [/bin/sh, -c, "
                              "\"...\"]",
                              row->key, node_show(item).text);
        word[i] = compile_copy(c, item->text);
    }
    memcpy(field, &word, sizeof word);
    return !c->nomem;
}

static const struct schema_type command = {"a path, or a list of words",
                                           read_command};

/* Goes to sendmail as an argument behind "--". */
static bool
read_mail(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    const char *text;

    if (!schema_text.read(c, row, n, &text))
        return false;
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || strchr("<>(),;:\\\"", *p) != NULL)
            return diag_error(c->diag, n->at,
                              "%s: want one address or user, found \"%s\"",
                              row->key, text);
    memcpy(field, &text, sizeof text);
    return true;
}

static const struct schema_type mail = {"an address or a user of this host",
                                        read_mail};

static const struct schema_row rows[] = {
    {"command", &command, SCHEMA_AT(alerts, command),
     .help = "program to run; the facts are in its environment"},
    {"mail", &mail, SCHEMA_AT(alerts, mail), .max = 254,
     .help = "recipient of a mail"},
    {"sendmail", &command, SCHEMA_AT(alerts, sendmail),
     .unset = "/usr/sbin/sendmail", .help = "the MTA's command that takes it"},
    {"timeout", &schema_duration, SCHEMA_AT(alerts, timeout_ms), .min = 1000,
     .max = 600 * 1000, .unset = "30s",
     .help = "a command that runs longer is ended"},
    {"interval", &schema_duration, SCHEMA_AT(alerts, interval_ms), .min = 1000,
     .max = 7ull * 86400 * 1000, .unset = "1h",
     .help = "at most once in this time for each account or client"},
    {"quota", &schema_percent, SCHEMA_AT(alerts, quota_percent), .unset = "90%",
     .help = "part of a limit that is worth an alert"},
};

const struct schema compile_alert_schema = SCHEMA("alert", rows);

static bool
read_alert(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    (void)field;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    if (!schema_read(c, &compile_alert_schema, n, n->at, &c->p->alert))
        return false;
    if (c->p->alert.command == NULL && c->p->alert.mail == NULL)
        return diag_error(c->diag, n->at, "alert: want command, mail or both");
    return true;
}

const struct schema_type compile_alert = {"a map", read_alert};
