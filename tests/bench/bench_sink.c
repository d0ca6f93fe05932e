/* tests/bench/bench_sink.c - a submission server that costs little: TLS, any
 * login, and as far away as one likes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_sink CA_FILE [RTT_MS [SLOW SLOW_MS [COOLING]]]
 *
 * Writes the CA of its certificate (smtp.gmail.com) to CA_FILE and its port,
 * on 127.0.0.1, to standard output.  Answers each flight RTT_MS after it came:
 * a client that sends all commands at once waits once.  Of the logins
 * user<N>@..., those with N < SLOW wait SLOW_MS more for the last reply, the
 * next COOLING ones are refused with 454.  Each line on standard input is
 * answered with what was counted since the last one; its end ends the server.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "tests/unit/base/tls_peer.h"

enum { USERS = 1 << 17, IN_MAX = 64 * 1024, OUT_MAX = 32 * 1024 };

static unsigned rtt_ms, slow, slow_ms, cooling;
static SSL_CTX *ctx;
static atomic_uint open_of[USERS]; /* sessions of each user */
static struct {
    atomic_ulong messages, flights, connections, logins, refused, resumed,
        most_open, began_us, ended_us;
} count;

struct peer {
    int fd;
    SSL *ssl;
    char in[IN_MAX];
    size_t n;
    char out[OUT_MAX];
    size_t n_out;
    long user;   /* -1 = not logged in, or no number in the name */
    bool inside; /* content: the flight goes on */
};

static unsigned long
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long)t.tv_sec * 1000000 + (unsigned long)t.tv_nsec / 1000;
}

static void
pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    if (ms > 0)
        nanosleep(&t, NULL);
}

static void
fail(const char *what)
{
    perror(what);
    exit(2);
}

/* ---- bytes ---- */

static void
say(struct peer *p, const char *text)
{
    size_t n = strlen(text);

    if (p->n_out + n > sizeof p->out)
        return; /* nobody sends so many commands at once */
    memcpy(p->out + p->n_out, text, n);
    p->n_out += n;
}

static bool
flush(struct peer *p)
{
    bool ok = p->n_out == 0 || SSL_write(p->ssl, p->out, (int)p->n_out) > 0;

    p->n_out = 0;
    return ok;
}

/* More input; what was said goes out first, one round trip later. */
static bool
fill(struct peer *p)
{
    int n;

    if (!p->inside && p->n_out > 0) {
        pause_ms(rtt_ms);
        atomic_fetch_add(&count.flights, 1);
        if (!flush(p))
            return false;
    }
    n = SSL_read(p->ssl, p->in + p->n, (int)(sizeof p->in - p->n));
    if (n <= 0)
        return false;
    p->n += (size_t)n;
    return true;
}

static void
eat(struct peer *p, size_t n)
{
    memmove(p->in, p->in + n, p->n - n);
    p->n -= n;
}

/* ---- commands ---- */

static bool
end_message(struct peer *p)
{
    unsigned long now = now_us(), none = 0;

    p->inside = false;
    if (p->user >= 0 && p->user < (long)slow)
        pause_ms(slow_ms);
    atomic_fetch_add(&count.messages, 1);
    atomic_compare_exchange_strong(&count.began_us, &none, now);
    atomic_store(&count.ended_us, now);
    say(p, "250 2.0.0 OK x - gsmtp\r\n");
    return true;
}

static bool
bdat(struct peer *p, const char *line)
{
    size_t left = strtoul(line + 5, NULL, 10);

    p->inside = true;
    while (left > 0) {
        size_t n = p->n < left ? p->n : left;

        eat(p, n);
        left -= n;
        if (left > 0 && !fill(p))
            return false;
    }
    if (strcasestr(line, "LAST") != NULL)
        return end_message(p);
    p->inside = false;
    say(p, "250 2.0.0 OK x - gsmtp\r\n");
    return true;
}

static bool
data(struct peer *p)
{
    say(p, "354 Go ahead x - gsmtp\r\n");
    if (!fill(p))
        return false;
    p->inside = true;
    for (;;) {
        const char *end = memmem(p->in, p->n, "\r\n.\r\n", 5);

        if (end != NULL) {
            eat(p, (size_t)(end + 5 - p->in));
            return end_message(p);
        }
        if (p->n > 4)
            eat(p, p->n - 4);
        if (!fill(p))
            return false;
    }
}

static void
auth(struct peer *p, const char *line)
{
    const char *response = strrchr(line, ' ');
    unsigned char text[3000] = {0};
    const char *user = NULL;
    unsigned now;
    unsigned long most = atomic_load(&count.most_open);
    size_t len = response != NULL ? strlen(response + 1) : 0;

    if (len > 0 && len < 3900)
        EVP_DecodeBlock(text, (const unsigned char *)response + 1, (int)len);
    for (size_t i = 0; i + 4 < sizeof text && user == NULL; i++)
        if (memcmp(text + i, "user", 4) == 0 && text[i + 4] >= '0' &&
            text[i + 4] <= '9')
            user = (const char *)text + i + 4;
    p->user = user != NULL ? atol(user) % USERS : 0;
    if (p->user >= (long)slow && p->user < (long)(slow + cooling)) {
        p->user = -1;
        atomic_fetch_add(&count.refused, 1);
        say(p, "454 4.7.0 Too many login attempts, please try again later. x - "
               "gsmtp\r\n");
        return;
    }
    now = atomic_fetch_add(&open_of[p->user], 1) + 1;
    while (now > most &&
           !atomic_compare_exchange_weak(&count.most_open, &most, now))
        ;
    atomic_fetch_add(&count.logins, 1);
    say(p, "235 2.7.0 Accepted\r\n");
}

/* False: the connection is over. */
static bool
command(struct peer *p, const char *line)
{
    if (strncasecmp(line, "EHLO", 4) == 0)
        say(p, "250-smtp.gmail.com at your service\r\n250-SIZE 35882577\r\n"
               "250-8BITMIME\r\n250-AUTH PLAIN XOAUTH2\r\n"
               "250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250-CHUNKING\r\n"
               "250 SMTPUTF8\r\n");
    else if (strncasecmp(line, "AUTH ", 5) == 0)
        auth(p, line);
    else if (strncasecmp(line, "BDAT ", 5) == 0)
        return bdat(p, line);
    else if (strcasecmp(line, "DATA") == 0)
        return data(p);
    else if (strcasecmp(line, "QUIT") == 0) {
        say(p, "221 2.0.0 closing connection x - gsmtp\r\n");
        flush(p);
        return false;
    } else if (strncasecmp(line, "MAIL ", 5) == 0)
        say(p, "250 2.1.0 OK x - gsmtp\r\n");
    else
        say(p, "250 2.1.5 OK x - gsmtp\r\n");
    return true;
}

static void
talk(struct peer *p)
{
    say(p, "220 smtp.gmail.com ESMTP x - gsmtp\r\n");
    for (;;) {
        char *end = memchr(p->in, '\n', p->n), line[4096];
        size_t len;

        if (end == NULL) {
            if (p->n == sizeof p->in || !fill(p))
                return;
            continue;
        }
        len = (size_t)(end + 1 - p->in);
        snprintf(line, sizeof line, "%.*s", (int)len, p->in);
        line[strcspn(line, "\r\n")] = '\0';
        eat(p, len);
        if (!command(p, line))
            return;
    }
}

static void *
serve(void *cookie)
{
    struct peer *p = cookie;

    pause_ms(rtt_ms); /* TCP */
    p->ssl = SSL_new(ctx);
    if (p->ssl == NULL || SSL_set_fd(p->ssl, p->fd) != 1)
        fail("SSL_new");
    if (SSL_accept(p->ssl) == 1) {
        pause_ms(rtt_ms);
        atomic_fetch_add(&count.resumed,
                         (unsigned long)SSL_session_reused(p->ssl));
        talk(p);
        SSL_shutdown(p->ssl);
    }
    if (p->user >= 0)
        atomic_fetch_sub(&open_of[p->user], 1);
    ERR_clear_error();
    SSL_free(p->ssl);
    close(p->fd);
    free(p);
    return NULL;
}

static void *
listen_on(void *cookie)
{
    int listener = *(int *)cookie, on = 1;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    for (;;) {
        struct peer *p = calloc(1, sizeof *p);
        pthread_t t;

        if (p == NULL)
            fail("memory");
        p->user = -1;
        p->fd = accept(listener, NULL, NULL);
        if (p->fd < 0) {
            perror("accept");
            free(p);
            return NULL;
        }
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        atomic_fetch_add(&count.connections, 1);
        if (pthread_create(&t, &attr, serve, p) != 0)
            fail("thread");
    }
}

static void
report(void)
{
    static double cpu_before;
    struct rusage r;
    unsigned long began = atomic_exchange(&count.began_us, 0),
                  ended = atomic_load(&count.ended_us);
    double cpu;

    getrusage(RUSAGE_SELF, &r);
    cpu = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
          (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
    printf("{\"messages\": %lu, \"seconds\": %.3f, \"flights\": %lu, "
           "\"connections\": %lu, \"resumed\": %lu, \"logins\": %lu, "
           "\"refused\": %lu, \"most_open\": %lu, \"cpu_s\": %.3f}\n",
           atomic_exchange(&count.messages, 0),
           (double)(ended > began ? ended - began : 0) / 1e6,
           atomic_exchange(&count.flights, 0),
           atomic_exchange(&count.connections, 0),
           atomic_exchange(&count.resumed, 0),
           atomic_exchange(&count.logins, 0),
           atomic_exchange(&count.refused, 0), atomic_load(&count.most_open),
           cpu - cpu_before);
    cpu_before = cpu;
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct cert ca, cert;
    pthread_t t;
    char line[100];

    if (argc < 2)
        return 2;
    rtt_ms = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    slow = argc > 4 ? (unsigned)atoi(argv[3]) : 0;
    slow_ms = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    cooling = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
    ca = cert_new(NULL, "Bench CA", NULL, -DAY, DAY, true);
    cert = cert_new(&ca, "sink", "DNS:smtp.gmail.com", -DAY, DAY, false);
    cert_write_pem(&ca, argv[1]);
    ctx = tls_peer_ctx(&cert);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0)
        fail("listen");
    printf("%u\n", (unsigned)ntohs(a.sin_port));
    fflush(stdout);
    if (pthread_create(&t, NULL, listen_on, &listener) != 0)
        fail("thread");
    while (fgets(line, sizeof line, stdin) != NULL)
        report();
    _exit(0); /* sessions are still open */
}
