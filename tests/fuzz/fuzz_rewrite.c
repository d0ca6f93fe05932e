/* tests/fuzz/fuzz_rewrite.c - a message from a stranger, and Gmail's copy of
 * it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Octet 0: the From handling, how the content is cut.  Whatever the content
 * is: the copy has the size announced, every line end of it is CRLF and there
 * is one at its end, its header has no Bcc, one Message-ID at least and a
 * Date, and with FROM_REWRITE at most one From, which is the account's own.
 * Making a copy of the copy changes nothing any more.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/buf.h"
#include "milter/deliver/fields.h"
#include "milter/deliver/message.h"
#include "policy/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static const char *send_as[] = {"@promo.example.com"};
static const struct account account = {
    .address = "a@example.com", .n_send_as = 1, .send_as = send_as};
static const struct mailbox mailbox = {
    .account = &account, .id = 1, .address = "a@example.com"};

static struct message *
load(const uint8_t *data, size_t size, size_t step)
{
    struct message *m = message_new("/tmp");
    char err[200];

    check(m != NULL);
    while (size > 0) {
        size_t n = size < step ? size : step;

        check(message_add(m, data, n, err, sizeof err));
        data += n;
        size -= n;
    }
    check(message_end(m, err, sizeof err));
    check(strlen(message_id(m)) < 1000);
    return m;
}

static struct buf
copy_of(const struct message *m, enum from_handling from, size_t step)
{
    struct copy_options o = {.mailbox = &mailbox,
                             .from = from,
                             .sender = "s@x.org",
                             .hostname = "h.example",
                             .ticket = 7,
                             .tag_domain = "gmroute.invalid"};
    struct message_copy *c = message_copy_new(m, &o);
    struct buf b;
    size_t n;

    check(c != NULL);
    buf_init(&b, 1 << 26);
    do {
        check(buf_reserve(&b, step));
        check(message_copy_read(c, b.at + b.len, step, &n) && n <= step);
        b.len += n;
    } while (n > 0);
    check(b.len == message_copy_size(c));
    message_copy_free(c);
    return b;
}

static void
check_lines(struct slice s)
{
    check(s.len >= 2 && memcmp(s.at + s.len - 2, "\r\n", 2) == 0);
    for (size_t i = 0; i < s.len; i++) {
        check(s.at[i] != '\r' || (i + 1 < s.len && s.at[i + 1] == '\n'));
        check(s.at[i] != '\n' || (i > 0 && s.at[i - 1] == '\r'));
    }
}

static void
check_from(const struct field *f)
{
    struct header_addresses it = header_addresses(f->value);
    struct header_address a;

    check(header_next_address(&it, &a));
    check(strcasecmp(a.text, "a@example.com") == 0 ||
          strcasestr(a.text, "@promo.example.com") != NULL);
    check(!header_next_address(&it, &a));
}

static void
check_header(struct slice copy, enum from_handling from)
{
    const char *end = memmem(copy.at, copy.len, "\r\n\r\n", 4);
    struct fields f;
    size_t n_from = 0;

    check(end != NULL);
    check(
        fields_parse(&f, (struct slice){copy.at, (size_t)(end + 2 - copy.at)}));
    for (size_t i = 0; i < f.n; i++) {
        check(fields_is_start(f.at[i].whole));
        check(!field_is(&f.at[i], "Bcc") && !field_is(&f.at[i], "Resent-Bcc"));
        if (field_is(&f.at[i], "From") && ++n_from > 0 && from == FROM_REWRITE)
            check_from(&f.at[i]);
    }
    check(from != FROM_REWRITE || n_from == 1);
    check(fields_find(&f, "Message-ID") != NULL);
    check(fields_find(&f, "Date") != NULL);
    fields_free(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 3, 100, 100000};
    enum from_handling from;
    struct message *m, *again;
    struct buf b, same;
    size_t step;

    if (size == 0)
        return 0;
    from = (enum from_handling)(data[0] % 3);
    step = steps[data[0] >> 6];
    m = load(data + 1, size - 1, step);
    b = copy_of(m, from, step);
    check_lines(buf_slice(&b));
    check_header(buf_slice(&b), from);
    again = load((const uint8_t *)b.at, b.len, 100000);
    same = copy_of(again, from, 100000);
    check(slice_eq(buf_slice(&b), buf_slice(&same)));
    message_free(m);
    message_free(again);
    buf_free(&b);
    buf_free(&same);
    return 0;
}
