/* milter/token/https.c - see https.h; by libcurl.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/https.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

void
https_start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t
on_body(char *data, size_t size, size_t n, void *cookie)
{
    return buf_add(cookie, data, size * n) ? n : 0;
}

static size_t
on_header(char *data, size_t size, size_t n, void *cookie)
{
    struct https_answer *a = cookie;
    char date[64];

    if (size * n > 5 && size * n < sizeof date &&
        strncasecmp(data, "Date:", 5) == 0) {
        time_t t;

        snprintf(date, sizeof date, "%.*s", (int)(size * n - 5), data + 5);
        t = curl_getdate(date, NULL);
        a->date_s = t > 0 ? (int64_t)t : 0;
    }
    return size * n;
}

/* "::address:port" sends the connection there, whatever the URL's host; name
 * and certificate stay the URL's. */
static struct curl_slist *
connect_to(const char *where)
{
    char entry[300];

    if (where == NULL)
        return NULL;
    snprintf(entry, sizeof entry, "::%s", where);
    return curl_slist_append(NULL, entry);
}

void
https_post(const struct https_request *q, struct https_answer *ret)
{
    CURL *c = curl_easy_init();
    struct curl_slist *to = connect_to(q->connect);
    char reason[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode code;

    *ret = (struct https_answer){0};
    buf_init(&ret->body, HTTPS_BODY_MAX);
    if (c == NULL) {
        snprintf(ret->error, sizeof ret->error, "out of memory");
        curl_slist_free_all(to);
        return;
    }
    curl_easy_setopt(c, CURLOPT_URL, q->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->form);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)q->form_len);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "gmroute/" GMROUTE_VERSION);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &ret->body);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, ret);
    if (to != NULL)
        curl_easy_setopt(c, CURLOPT_CONNECT_TO, to);
    if (q->ca_file != NULL)
        curl_easy_setopt(c, CURLOPT_CAINFO, q->ca_file);
    code = curl_easy_perform(c);
    if (code == CURLE_OK)
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    else
        snprintf(ret->error, sizeof ret->error, "%.150s",
                 reason[0] != 0 ? reason : curl_easy_strerror(code));
    ret->status = (unsigned)status;
    curl_easy_cleanup(c);
    curl_slist_free_all(to);
}

void
https_answer_free(struct https_answer *a)
{
    buf_wipe_free(&a->body);
}
