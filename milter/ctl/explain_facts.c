/* milter/ctl/explain_facts.c - from words and a file to facts.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/explain.h"
#include "policy/scalar.h"

/* ---- options ---- */

static struct slice
unbracket(const char *text)
{
    struct slice s = slice_of(text);

    if (s.len >= 2 && s.at[0] == '<' && s.at[s.len - 1] == '>')
        return (struct slice){s.at + 1, s.len - 2};
    return s;
}

static bool
parse_client(const char *text, struct facts_client *ret)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    ret->known = true;
    if (inet_pton(AF_INET, text, ret->address + 12) == 1) {
        memcpy(ret->address, mapped, sizeof mapped);
        return true;
    }
    return inet_pton(AF_INET6, text, ret->address) == 1;
}

/* The MTA gives rcpt_* for each RCPT anew; the others belong to the
 * connection or the message. */
static const char *
take_macro(struct explain *x, char *text)
{
    char *value = strchr(text, '=');
    struct facts_pair macro;

    if (value == NULL)
        return "--macro: want name=value";
    macro.name = (struct slice){text, (size_t)(value - text)};
    macro.value = slice_of(value + 1);
    if (macro.name.len >= 2 && macro.name.at[0] == '{' &&
        macro.name.at[macro.name.len - 1] == '}')
        macro.name = (struct slice){macro.name.at + 1, macro.name.len - 2};
    if (x->n_macros + x->n_rcpt_macros == EXPLAIN_WORDS_MAX)
        return "--macro: too many of them";
    if (slice_starts(macro.name, "rcpt_"))
        x->rcpt_macro[x->n_rcpt_macros++] = macro;
    else
        x->macro[x->n_macros++] = macro;
    return NULL;
}

static const char *
take_stage(struct explain *x, const char *value)
{
    x->at_rcpt = strcmp(value, "rcpt") == 0;
    return x->at_rcpt || strcmp(value, "message") == 0
               ? NULL
               : "--stage: want rcpt or message";
}

static const char *
take_option(struct explain *x, int option, char *value)
{
    switch (option) {
    case 's':
        x->facts.sender = unbracket(value);
        return NULL;
    case 'r':
        if (x->n_recipients == EXPLAIN_WORDS_MAX)
            return "--recipient: too many of them";
        x->recipient[x->n_recipients++] = unbracket(value);
        return NULL;
    case 'a':
        return parse_client(value, &x->facts.client)
                   ? NULL
                   : "--client: want an IPv4 or IPv6 address";
    case 'n':
        x->facts.client.name = slice_of(value);
        return NULL;
    case 'h':
        x->facts.helo = slice_of(value);
        return NULL;
    case 'l':
        x->facts.auth = slice_of(value);
        return NULL;
    case 'm':
        return take_macro(x, value);
    case 'g':
        return take_stage(x, value);
    case 't':
        return scalar_time(slice_of(value), &x->facts.now_s) == SCALAR_OK
                   ? NULL
                   : "--now: want a time such as 2026-03-01T10:00:00Z";
    case 'z':
        x->has_size = true;
        return scalar_size(slice_of(value), &x->facts.size_octets) == SCALAR_OK
                   ? NULL
                   : "--size: want octets, such as 20000 or 25MB";
    case 'T':
        x->facts.tls = true;
        return NULL;
    case 'L':
        x->facts.local = true;
        return NULL;
    case 'A':
        x->all = true;
        return NULL;
    default:
        return "unknown option, or one without its value";
    }
}

const char *
explain_options(struct explain *x, int argc, char **argv)
{
    static const struct option options[] = {
        {"sender", required_argument, NULL, 's'},
        {"recipient", required_argument, NULL, 'r'},
        {"client", required_argument, NULL, 'a'},
        {"client-name", required_argument, NULL, 'n'},
        {"helo", required_argument, NULL, 'h'},
        {"auth", required_argument, NULL, 'l'},
        {"macro", required_argument, NULL, 'm'},
        {"now", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 'z'},
        {"stage", required_argument, NULL, 'g'},
        {"tls", no_argument, NULL, 'T'},
        {"local", no_argument, NULL, 'L'},
        {"all", no_argument, NULL, 'A'},
        {0},
    };
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char *bad = take_option(x, option, optarg);

        if (bad != NULL)
            return bad;
    }
    if (optind < argc)
        x->message = argv[optind++];
    if (optind < argc)
        return "more than one message";
    return x->n_recipients > 0 ? NULL : "no --recipient";
}

/* ---- the message ---- */

static bool
find_attachments(struct explain *x)
{
    struct slice body;

    x->mime = mime_new();
    if (x->mime == NULL)
        return false;
    mime_reset(x->mime);
    for (size_t i = 0; i < x->file.n_headers; i++)
        mime_header(x->mime, x->file.header[i].name, x->file.header[i].value);
    body = message_file_body(&x->file);
    if (mime_wants_body(x->mime))
        mime_body(x->mime, body.at, body.len);
    x->facts.attachment = mime_names(x->mime, &x->facts.n_attachments);
    x->facts.attachments_cut = mime_cut(x->mime);
    return true;
}

bool
explain_facts(struct explain *x, char *err, size_t err_size)
{
    struct facts *f = &x->facts;

    f->stage = FACTS_EOM;
    f->n_recipients = x->n_recipients;
    f->n_macros = x->n_macros;
    f->macro = x->macro;
    f->n_rcpt_macros = x->n_rcpt_macros;
    f->rcpt_macro = x->rcpt_macro;
    if (x->message == NULL)
        return true;
    if (!message_file_read(x->message, &x->file, err, err_size))
        return false;
    f->n_headers = x->file.n_headers;
    f->header = x->file.header;
    if (!x->has_size)
        f->size_octets = x->file.size_octets;
    if (!find_attachments(x)) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    return true;
}
