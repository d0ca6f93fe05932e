/* tests/fuzz/fuzz_service_key.c - the key file of a service account, or what
 * somebody has put in its place.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever it is: a form with a signed assertion, or a sentence that can stand
 * in a log; none of the file's text is in that.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/oauth/oauth2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FORM_MAX = 32 * 1024 };

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_sentence(const char *s, size_t room)
{
    size_t n = strnlen(s, room);

    check(n > 0 && n < room);
    for (size_t i = 0; i < n; i++)
        check(s[i] >= ' ' && s[i] <= '~');
}

/* It goes out as it is: what a form may hold, and three parts. */
static void
check_form(const struct buf *form)
{
    unsigned dots = 0;

    for (size_t i = 0; i < form->len; i++) {
        char c = form->at[i];

        check((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~%&=", c)));
        dots += c == '.';
    }
    check(dots >= 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct service_key key = {0};
    char err[300] = "";
    struct buf form;

    if (!service_key_parse((const char *)data, size, &key, err, sizeof err)) {
        check_sentence(err, sizeof err);
        check(key.private_key == NULL && key.client_email == NULL);
        return 0;
    }
    buf_init(&form, FORM_MAX);
    if (oauth2_jwt_form(
            &form, &key, "ann@example.com", "https://mail.google.com/",
            "https://oauth2.googleapis.com/token", 1700000000, err, sizeof err))
        check_form(&form);
    else
        check_sentence(err, sizeof err);
    buf_wipe_free(&form);
    service_key_free(&key);
    return 0;
}
