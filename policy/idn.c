/* policy/idn.c - see idn.h; the only user of idn2.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/idn.h"

#include <idn2.h>

enum { DOMAIN_OCTETS_MAX = 1020 /* 255 characters of four octets */ };

bool
idn_is_ascii(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] >= 0x80)
            return false;
    return true;
}

static bool
has_wildcard(struct slice s)
{
    return memchr(s.at, '*', s.len) != NULL || memchr(s.at, '?', s.len) != NULL;
}

/* Letters, digits, hyphens, underscores and dots between them.  The mapping of
 * UTS #46 makes "@", "*" and a dot of their full-width forms, and more of other
 * signs: what it makes must not be read as what it is not. */
static bool
is_hostname(const char *ascii)
{
    if (ascii[0] == '.' || ascii[0] == '\0')
        return false;
    for (const char *c = ascii; *c != '\0'; c++)
        if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') &&
            !(*c >= '0' && *c <= '9') && *c != '-' && *c != '_' && *c != '.')
            return false;
    return true;
}

/* Adds one label, or more of them, to what *len octets are used of. */
static enum idn_result
convert(struct slice s, char *ret, size_t ret_size, size_t *len)
{
    char text[DOMAIN_OCTETS_MAX + 1], *ascii = NULL;
    enum idn_result r = IDN_SAME;
    size_t n;
    int rc;

    if (s.len > DOMAIN_OCTETS_MAX || memchr(s.at, '\0', s.len) != NULL)
        return IDN_SAME;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    rc = idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC)
        return IDN_ENOMEM;
    if (rc != IDN2_OK)
        return IDN_SAME;
    n = strlen(ascii);
    if (is_hostname(ascii) && n < ret_size - *len) {
        memcpy(ret + *len, ascii, n);
        *len += n;
        r = IDN_OK;
    }
    idn2_free(ascii);
    return r;
}

/* Label by label. */
static enum idn_result
convert_glob(struct slice s, char *ret, size_t ret_size, size_t *len)
{
    while (s.len > 0) {
        const char *dot = memchr(s.at, '.', s.len);
        struct slice label = {s.at, dot != NULL ? (size_t)(dot - s.at) : s.len};
        size_t before = *len;

        if (label.len > 0 && !has_wildcard(label) && !idn_is_ascii(label)) {
            enum idn_result r = convert(label, ret, ret_size, len);

            if (r != IDN_OK)
                return r;
        }
        if (*len == before) {
            if (label.len >= ret_size - *len)
                return IDN_SAME;
            memcpy(ret + *len, label.at, label.len);
            *len += label.len;
        }
        if (dot != NULL) {
            if (ret_size - *len < 2)
                return IDN_SAME;
            ret[(*len)++] = '.';
        }
        s = slice_from(s, label.len + 1);
    }
    return IDN_OK;
}

enum idn_result
idn_domain(struct slice domain, char *ret, size_t ret_size, size_t *ret_len)
{
    char room[DOMAIN_OCTETS_MAX + 1];
    enum idn_result r;
    size_t len = 0;

    if (idn_is_ascii(domain))
        return IDN_SAME;
    if (domain.at[0] == '.') {
        room[len++] = '.';
        domain = slice_from(domain, 1);
    }
    r = has_wildcard(domain) ? convert_glob(domain, room, sizeof room, &len)
                             : convert(domain, room, sizeof room, &len);
    if (r != IDN_OK)
        return r;
    if (len >= ret_size)
        return IDN_SAME;
    memcpy(ret, room, len);
    ret[len] = '\0';
    *ret_len = len;
    return IDN_OK;
}

enum idn_result
idn_address(struct slice address, char *ret, size_t ret_size, size_t *ret_len)
{
    const char *at =
        address.len > 0 ? memrchr(address.at, '@', address.len) : NULL;
    char domain[DOMAIN_OCTETS_MAX + 1];
    enum idn_result r;
    size_t local, len;

    if (at == NULL)
        return IDN_SAME;
    local = (size_t)(at - address.at) + 1;
    r = idn_domain(slice_from(address, local), domain, sizeof domain, &len);
    if (r != IDN_OK)
        return r;
    if (local >= ret_size || len >= ret_size - local)
        return IDN_SAME;
    memmove(ret, address.at, local);
    memcpy(ret + local, domain, len + 1);
    *ret_len = local + len;
    return IDN_OK;
}
