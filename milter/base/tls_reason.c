/* milter/base/tls_reason.c - see tls_reason.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/tls_reason.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* A name out of a certificate is a stranger's text: what could break a line
 * or a quote is replaced. */
static void
clean(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
            *text = '?';
}

/* "a.example, b.example (and 3 more)" from the subject's alternative names;
 * false when it has none. */
static bool
alternative_names(X509 *cert, char *ret, size_t ret_size)
{
    enum { SHOWN = 3 };
    GENERAL_NAMES *names =
        X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int n = sk_GENERAL_NAME_num(names), used = 0, len = 0;

    ret[0] = '\0';
    for (int i = 0; i < n; i++) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char text[INET6_ADDRSTRLEN > 80 ? INET6_ADDRSTRLEN : 80] = "";

        if (name->type == GEN_DNS)
            snprintf(text, sizeof text, "%.*s",
                     ASN1_STRING_length(name->d.dNSName),
                     (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        else if (name->type == GEN_IPADD)
            inet_ntop(
                ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6,
                ASN1_STRING_get0_data(name->d.iPAddress), text, sizeof text);
        if (text[0] == '\0' || ++used > SHOWN || len >= (int)ret_size)
            continue;
        len += snprintf(ret + len, ret_size - (size_t)len, "%s%s",
                        used > 1 ? ", " : "", text);
    }
    if (used > SHOWN && len < (int)ret_size)
        snprintf(ret + len, ret_size - (size_t)len, " (and %d more)",
                 used - SHOWN);
    GENERAL_NAMES_free(names);
    clean(ret);
    return used > 0;
}

static void
subject_of(X509 *cert, char *ret, size_t ret_size)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;
    long n = 0;

    if (out != NULL &&
        X509_NAME_print_ex(out, X509_get_subject_name(cert), 0,
                           XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0)
        n = BIO_get_mem_data(out, &text);
    snprintf(ret, ret_size, "%.*s", n > 0 ? (int)n : 0, n > 0 ? text : "");
    if (ret[0] == '\0')
        snprintf(ret, ret_size, "without a subject");
    BIO_free(out);
    clean(ret);
}

static void
time_of(const ASN1_TIME *t, char *ret, size_t ret_size)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(t, &tm) != 1 ||
        strftime(ret, ret_size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(ret, ret_size, "an unreadable date");
}

bool
tls_reason_is_address(const char *name)
{
    unsigned char address[16];

    return inet_pton(AF_INET, name, address) == 1 ||
           inet_pton(AF_INET6, name, address) == 1;
}

/* What a server of many names shows to a client that named none.  Google's
 * is "OU = No SNI provided; please fix your client., CN = invalid2.invalid";
 * a name below .invalid is nobody's (RFC 2606). */
static bool
is_stand_in(const char *names)
{
    const char *at = strstr(names, ".invalid");

    return strcasestr(names, "no sni") != NULL ||
           (at != NULL && (at[8] == '\0' || at[8] == ',' || at[8] == ' '));
}

/* Why the server may have chosen this certificate, in front of what is wrong
 * with it; returns its octets. */
static size_t
put_cause(X509 *leaf, const char *name, char *ret, size_t ret_size)
{
    char subject[120] = "", names[140] = "";
    int n = 0;

    ret[0] = '\0';
    if (leaf == NULL)
        return 0;
    subject_of(leaf, subject, sizeof subject);
    alternative_names(leaf, names, sizeof names);
    if (tls_reason_is_address(name))
        n = snprintf(
            ret, ret_size,
            "no server name (SNI) was sent, for %s is an address: ", name);
    else if (is_stand_in(subject) || is_stand_in(names))
        n = snprintf(ret, ret_size,
                     "the server saw no server name (SNI), though %s was "
                     "sent: ",
                     name);
    return n > 0 && (size_t)n < ret_size ? (size_t)n : 0;
}

/* What is wrong with it. */
static void
put_fault(X509_STORE_CTX *ctx, const char *name, char *ret, size_t ret_size)
{
    int error = X509_STORE_CTX_get_error(ctx);
    const char *library = X509_verify_cert_error_string(error);
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    X509 *at = X509_STORE_CTX_get_current_cert(ctx);
    char subject[120] = "", names[140] = "", when[40] = "";

    if (at == NULL)
        at = leaf;
    if (at == NULL) {
        snprintf(ret, ret_size, "no certificate (%s)", library);
        return;
    }
    subject_of(at, subject, sizeof subject);

    switch (error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(ret, ret_size, "the certificate is for %s, not %s (%s)",
                 alternative_names(leaf, names, sizeof names) ? names : subject,
                 name, library);
        return;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        time_of(X509_get0_notAfter(at), when, sizeof when);
        snprintf(ret, ret_size, "certificate has expired on %s (subject %s)",
                 when, subject);
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        time_of(X509_get0_notBefore(at), when, sizeof when);
        snprintf(ret, ret_size,
                 "certificate is not valid before %s: is the clock of this "
                 "host right? (subject %s)",
                 when, subject);
        return;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        snprintf(ret, ret_size, "self-signed certificate (subject %s)",
                 subject);
        return;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        snprintf(ret, ret_size,
                 "unknown CA: the certificate's issuer is not in the trust "
                 "store (%s; subject %s)",
                 library, subject);
        return;
    default:
        snprintf(ret, ret_size, "bad certificate: %s (subject %s)", library,
                 subject);
    }
}

void
tls_reason_certificate(X509_STORE_CTX *ctx, const char *name, char *ret,
                       size_t ret_size)
{
    size_t n = 0;

    switch (X509_STORE_CTX_get_error(ctx)) {
    case X509_V_ERR_CERT_HAS_EXPIRED: /* whichever it is */
    case X509_V_ERR_CERT_NOT_YET_VALID:
        break;
    default:
        n = put_cause(X509_STORE_CTX_get0_cert(ctx), name, ret, ret_size);
    }
    put_fault(ctx, name, ret + n, ret_size - n);
}

void
tls_reason_library(char *ret, size_t ret_size)
{
    unsigned long e = ERR_get_error();
    const char *text = ERR_reason_error_string(e);

    ERR_clear_error();
    if (ERR_GET_LIB(e) == ERR_LIB_SSL)
        switch (ERR_GET_REASON(e)) {
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_HTTP_REQUEST:
            snprintf(ret, ret_size,
                     "the server's answer is not TLS: wrong port, or one that "
                     "wants STARTTLS? (%s)",
                     text);
            return;
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
            snprintf(ret, ret_size, "the server has no TLS 1.2 or later (%s)",
                     text);
            return;
        default:
            break;
        }
    if (ERR_SYSTEM_ERROR(e))
        text = strerror(ERR_GET_REASON(e));
    snprintf(ret, ret_size, "%s", text != NULL ? text : "unknown TLS error");
}
