/* milter/base/sasl.c - see sasl.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/sasl.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

const char *
sasl_name(enum sasl_mechanism m)
{
    static const char *const names[SASL_MECHANISMS] = {
        [SASL_PLAIN] = "PLAIN",
        [SASL_XOAUTH2] = "XOAUTH2",
        [SASL_OAUTHBEARER] = "OAUTHBEARER",
    };

    return m < SASL_MECHANISMS ? names[m] : "?";
}

const char *
sasl_failed_answer(enum sasl_mechanism m)
{
    switch (m) {
    case SASL_XOAUTH2:
        return "";
    case SASL_OAUTHBEARER:
        return "AQ=="; /* RFC 7628 3.2.3: a single ^A */
    default:
        return "*";
    }
}

/* Could this text end a line or a part of any mechanism's response? */
static bool
is_clean(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return s.len > 0;
}

/* RFC 5801 4: "," and "=" of a gs2 name are written "=2C" and "=3D". */
static bool
add_gs2_name(struct buf *to, const char *name)
{
    for (; *name != '\0'; name++) {
        bool ok = *name == ','   ? buf_add_text(to, "=2C")
                  : *name == '=' ? buf_add_text(to, "=3D")
                                 : buf_add(to, name, 1);
        if (!ok)
            return false;
    }
    return true;
}

static void
add_plain_text(enum sasl_mechanism m, const struct sasl_login *l,
               struct buf *to)
{
    switch (m) {
    case SASL_PLAIN:
        buf_add(to, "", 1);
        buf_add_text(to, l->user);
        buf_add(to, "", 1);
        buf_add(to, l->secret.at, l->secret.len);
        break;
    case SASL_XOAUTH2:
        buf_printf(to, "user=%s\001auth=Bearer ", l->user);
        buf_add(to, l->secret.at, l->secret.len);
        buf_add_text(to, "\001\001");
        break;
    default:
        buf_add_text(to, "n,a=");
        add_gs2_name(to, l->user);
        buf_printf(to, ",\001host=%s\001port=%u\001auth=Bearer ", l->host,
                   (unsigned)l->port);
        buf_add(to, l->secret.at, l->secret.len);
        buf_add_text(to, "\001\001");
        break;
    }
}

bool
sasl_response(enum sasl_mechanism m, const struct sasl_login *l, struct buf *to)
{
    enum { PLAIN_MAX = SASL_RESPONSE_MAX / 4 * 3 };
    struct buf plain;
    bool ok = false;

    if (!is_clean(slice_of(l->user)) || !is_clean(l->secret) ||
        (m == SASL_OAUTHBEARER && !is_clean(slice_of(l->host))))
        return false;
    buf_init(&plain, PLAIN_MAX);
    if (!buf_reserve(&plain, PLAIN_MAX))
        goto done;
    add_plain_text(m, l, &plain);
    if (buf_failed(&plain))
        goto done;
    /* EVP_EncodeBlock writes a NUL behind the text. */
    size_t encoded = (plain.len + 2) / 3 * 4;
    if (!buf_reserve(to, encoded + 1))
        goto done;
    EVP_EncodeBlock((unsigned char *)to->at + to->len,
                    (const unsigned char *)plain.at, (int)plain.len);
    to->len += encoded;
    ok = true;
done:
    buf_wipe_free(&plain);
    return ok;
}
