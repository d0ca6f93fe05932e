/* milter/oauth/https.c - see https.h; by libcurl.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/https.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/ssl.h>

#include "milter/oauth/wipe.h"

bool
https_start(void)
{
    return curl_global_init_mem(CURL_GLOBAL_DEFAULT, wipe_malloc, wipe_free,
                                wipe_realloc, wipe_strdup,
                                wipe_calloc) == CURLE_OK;
}

/* ---- lines ---- */

enum {
    LINES_MAX = 32,
    IDLE_S = 100,     /* Google hangs up after some minutes */
    LIFETIME_S = 900, /* names and trusted CAs are looked up again */
};

/* What outlives a request: its connection, TLS sessions and addresses, and
 * nothing that was said.  libcurl cannot share these between requests at the
 * same time, so each takes a line for itself, the one used last first: the
 * others grow old and are hung up. */
struct line {
    CURLSH *share;
    time_t used_s;
};

static struct {
    pthread_mutex_t lock;
    struct line at[LINES_MAX];
    unsigned n;
} lines = {.lock = PTHREAD_MUTEX_INITIALIZER};

static time_t
now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec;
}

static CURLSH *
new_share(void)
{
    CURLSH *share = curl_share_init();

    if (share != NULL &&
        (curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT) !=
             CURLSHE_OK ||
         curl_share_setopt(share, CURLSHOPT_SHARE,
                           CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
         curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) !=
             CURLSHE_OK)) {
        curl_share_cleanup(share);
        share = NULL;
    }
    return share;
}

/* NULL = out of memory: the request can do without. */
static CURLSH *
take_line(void)
{
    CURLSH *share = NULL;

    pthread_mutex_lock(&lines.lock);
    if (lines.n > 0)
        share = lines.at[--lines.n].share;
    pthread_mutex_unlock(&lines.lock);
    return share != NULL ? share : new_share();
}

/* Hangs up what nobody has used since `before_s`; the lock is held. */
static void
hang_up(time_t before_s)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < lines.n; i++)
        if (lines.at[i].used_s < before_s)
            curl_share_cleanup(lines.at[i].share);
        else
            lines.at[kept++] = lines.at[i];
    lines.n = kept;
}

static void
give_back(CURLSH *share)
{
    time_t s = now_s();

    if (share == NULL)
        return;
    pthread_mutex_lock(&lines.lock);
    hang_up(s - IDLE_S);
    if (lines.n < LINES_MAX)
        lines.at[lines.n++] = (struct line){share, s};
    else
        curl_share_cleanup(share);
    pthread_mutex_unlock(&lines.lock);
}

void
https_stop(void)
{
    pthread_mutex_lock(&lines.lock);
    hang_up(now_s() + 1);
    pthread_mutex_unlock(&lines.lock);
}

/* ---- what libcurl calls ---- */

/* A connection that stays open is for no program that we run. */
static curl_socket_t
on_socket(void *cookie, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)cookie;
    (void)purpose;
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Nor does it keep what it has decrypted. */
static CURLcode
on_tls(CURL *c, void *ctx, void *cookie)
{
    (void)c;
    (void)cookie;
    SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return CURLE_OK;
}

static size_t
on_body(char *data, size_t size, size_t n, void *cookie)
{
    return buf_add(cookie, data, size * n) ? size * n : 0;
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

struct progress {
    CURL *c;
    const atomic_bool *stop;
};

/* Called about once a second also when nothing moves; 1 = give up. */
static int
on_progress(void *cookie, curl_off_t down_all, curl_off_t down,
            curl_off_t up_all, curl_off_t up)
{
    struct progress *p = cookie;

    (void)down_all;
    (void)down;
    (void)up_all;
    (void)up;
    if (p->stop == NULL || !atomic_load(p->stop))
        return 0;
    /* A resolver that hangs is not waited for either. */
    curl_easy_setopt(p->c, CURLOPT_QUICK_EXIT, 1L);
    return 1;
}

/* ---- the request ---- */

/* "::address:port" sends the connection there, whatever the URL's host; name
 * and certificate stay the URL's. */
static bool
connect_to(const char *where, struct curl_slist **ret)
{
    char entry[300];
    int n;

    *ret = NULL;
    if (where == NULL)
        return true;
    n = snprintf(entry, sizeof entry, "::%s", where);
    if (n < 0 || n >= (int)sizeof entry)
        return false;
    *ret = curl_slist_append(NULL, entry);
    return *ret != NULL;
}

static CURLcode
set_up_tls(CURL *c, const struct https_request *q)
{
    CURLcode bad = CURLE_OK;

    bad |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    bad |= curl_easy_setopt(c, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    bad |= curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_tls);
    if (q->ca_file != NULL) {
        bad |= curl_easy_setopt(c, CURLOPT_CAINFO, q->ca_file);
        /* Else the system's directory would be trusted besides. */
        bad |= curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    return bad;
}

static CURLcode
set_up(CURL *c, const struct https_request *q, struct curl_slist *to)
{
    CURLcode bad = set_up_tls(c, q);

    bad |= curl_easy_setopt(c, CURLOPT_URL, q->url);
    bad |=
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_POST, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->form);
    bad |= curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)q->form_len);
    bad |= curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    bad |= curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)IDLE_S);
    bad |= curl_easy_setopt(c, CURLOPT_MAXLIFETIME_CONN, (long)LIFETIME_S);
    bad |= curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= curl_easy_setopt(c, CURLOPT_USERAGENT, "gmroute/" GMROUTE_VERSION);
    if (to != NULL) {
        bad |= curl_easy_setopt(c, CURLOPT_CONNECT_TO, to);
        bad |= curl_easy_setopt(c, CURLOPT_PROXY, "");
    }
    return bad;
}

static CURLcode
perform(CURL *c, struct progress *p, char *reason, struct https_answer *ret)
{
    CURLcode bad = CURLE_OK;

    bad |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEDATA, &ret->body);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERDATA, ret);
    bad |= curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    bad |= curl_easy_setopt(c, CURLOPT_XFERINFODATA, p);
    return bad == CURLE_OK ? curl_easy_perform(c) : CURLE_FAILED_INIT;
}

static void
take_answer(CURL *c, struct https_answer *ret)
{
    curl_off_t retry_after_s = 0;
    long status = 0;

    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &retry_after_s);
    ret->status = (unsigned)status;
    ret->retry_after_s = retry_after_s;
}

static const char *
remedy_of(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return " (check DNS)";
    case CURLE_COULDNT_RESOLVE_PROXY:
        return " (check https_proxy)";
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
        return " (check firewall and proxy)";
    case CURLE_SSL_CACERT_BADFILE:
        return " (check ca_file, or install ca-certificates)";
    case CURLE_PEER_FAILED_VERIFICATION:
        return " (check ca_file or ca-certificates, and the clock)";
    default:
        return "";
    }
}

static void
explain(CURLcode code, const char *reason, struct https_answer *ret)
{
    if (reason[0] == '\0')
        reason = curl_easy_strerror(code);
    if (buf_failed(&ret->body))
        snprintf(ret->error, sizeof ret->error, "the answer is too long");
    else if (code == CURLE_ABORTED_BY_CALLBACK)
        snprintf(ret->error, sizeof ret->error, "the daemon is stopping");
    else
        snprintf(ret->error, sizeof ret->error, "%.105s%s", reason,
                 remedy_of(code));
}

void
https_post(const struct https_request *q, struct https_answer *ret)
{
    struct progress p = {curl_easy_init(), q->stop};
    CURLSH *line = take_line();
    char reason[CURL_ERROR_SIZE] = "";
    struct curl_slist *to = NULL;
    CURLcode code;

    *ret = (struct https_answer){0};
    buf_init(&ret->body, HTTPS_BODY_MAX);
    if (p.c == NULL || !connect_to(q->connect, &to) ||
        set_up(p.c, q, to) != CURLE_OK) {
        snprintf(ret->error, sizeof ret->error,
                 "the request cannot be set up: out of memory?");
        goto done;
    }
    curl_easy_setopt(p.c, CURLOPT_SHARE, line);
    code = perform(p.c, &p, reason, ret);
    if (code == CURLE_OK)
        take_answer(p.c, ret);
    else
        explain(code, reason, ret);
done:
    curl_easy_cleanup(p.c); /* with all that it holds of the request */
    give_back(line);
    curl_slist_free_all(to);
}

void
https_answer_free(struct https_answer *a)
{
    buf_wipe_free(&a->body);
}
