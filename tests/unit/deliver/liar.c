/* tests/unit/deliver/liar.c - see liar.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/deliver/liar.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

struct peer { /* one connection */
    struct liar *l;
    int fd;
    SSL *ssl; /* NULL: in clear text */
    char in[70000];
    size_t n;
    bool logged_in;
    int rcpts; /* of this transaction */
};

static void
must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

static int
peer_read(struct peer *p, char *to, size_t max)
{
    return p->ssl != NULL ? SSL_read(p->ssl, to, (int)max)
                          : (int)recv(p->fd, to, max, 0);
}

static void
say(struct peer *p, const char *text)
{
    size_t n = strlen(text);

    if (p->ssl != NULL)
        SSL_write(p->ssl, text, (int)n);
    else if (send(p->fd, text, n, MSG_NOSIGNAL) < 0)
        return;
}

/* The next line without its end; false at the end of the connection. */
static bool
next_line(struct peer *p, char *to, size_t size)
{
    for (;;) {
        char *end = memchr(p->in, '\n', p->n);
        size_t used;
        int got;

        if (end != NULL) {
            used = (size_t)(end + 1 - p->in);
            snprintf(to, size, "%.*s", (int)(used >= 2 ? used - 2 : 0), p->in);
            memmove(p->in, p->in + used, p->n - used);
            p->n -= used;
            return true;
        }
        if (p->n == sizeof p->in)
            return false;
        got = peer_read(p, p->in + p->n, sizeof p->in - p->n);
        if (got <= 0)
            return false;
        p->n += (size_t)got;
    }
}

static bool
eat(struct peer *p, unsigned long octets)
{
    while (octets > 0) {
        size_t n = p->n < octets ? p->n : octets;
        int got;

        memmove(p->in, p->in + n, p->n - n);
        p->n -= n;
        octets -= n;
        atomic_fetch_add(&p->l->octets, (int)n);
        if (octets == 0)
            break;
        got = peer_read(p, p->in, sizeof p->in);
        if (got <= 0)
            return false;
        p->n = (size_t)got;
    }
    return true;
}

static bool
countdown(atomic_int *n)
{
    int was = atomic_load(n);

    while (was > 0)
        if (atomic_compare_exchange_weak(n, &was, was - 1))
            return true;
    return false;
}

static void
ehlo(struct peer *p)
{
    bool clear = p->l->starttls && p->ssl == NULL;

    say(p, "250-smtp.example at your service\r\n250-SIZE 35882577\r\n");
    say(p, clear ? "250-STARTTLS\r\n" : "250-AUTH LOGIN PLAIN XOAUTH2\r\n");
    say(p, "250-PIPELINING\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n");
}

static bool
auth(struct peer *p, const char *line)
{
    const char *response = strrchr(line, ' '), *want = p->l->login;
    const char *refusal = p->l->login_reply;
    char answer[100];

    if (refusal != NULL) {
        atomic_fetch_add(&p->l->refused, 1);
        say(p, refusal);
        return true;
    }
    if (want != NULL && (response == NULL || strcmp(response + 1, want) != 0)) {
        atomic_fetch_add(&p->l->refused, 1);
        say(p, "334 eyJzdGF0dXMiOiI0MDAifQ==\r\n");
        if (!next_line(p, answer, sizeof answer))
            return false;
        say(p, "535-5.7.8 Username and Password not accepted. For more\r\n"
               "535 5.7.8  https://support.google.com/mail/?p=BadCredentials "
               "x - gsmtp\r\n");
        return true;
    }
    atomic_fetch_add(&p->l->logins, 1);
    p->logged_in = true;
    say(p, "235 2.7.0 Accepted\r\n");
    return true;
}

static bool
handshake(struct peer *p)
{
    p->ssl = SSL_new(p->l->ctx);
    must(p->ssl != NULL && SSL_set_fd(p->ssl, p->fd) == 1, "SSL_new");
    return SSL_accept(p->ssl) == 1;
}

/* False: the connection is over. */
static bool
bdat(struct peer *p, const char *line)
{
    struct liar *l = p->l;
    const char *final;

    if (!eat(p, strtoul(line + 5, NULL, 10)))
        return false;
    if (countdown(&l->die_at_end))
        return false;
    usleep((useconds_t)atomic_load(&l->final_delay_ms) * 1000);
    final = l->final;
    if (final != NULL) {
        say(p, final);
        return true;
    }
    atomic_fetch_add(&l->messages, 1);
    say(p, "250 2.0.0 OK x - gsmtp\r\n");
    return !atomic_load(&l->end_after_message);
}

static void
rcpt(struct peer *p)
{
    int most = atomic_load(&p->l->rcpts_max);

    if (most > 0 && p->rcpts >= most) {
        say(p, "452-4.5.3 Your message has too many recipients.\r\n"
               "452 4.5.3  https://support.google.com/mail/?p="
               "TooManyRecipientsError x - gsmtp\r\n");
        return;
    }
    p->rcpts++;
    atomic_fetch_add(&p->l->rcpts, 1);
    say(p, "250 2.1.5 OK\r\n");
}

static bool
mail(struct peer *p)
{
    p->rcpts = 0;
    if (countdown(&p->l->die_at_mail))
        return false;
    if (!atomic_load(&p->l->refuse_and_leave)) {
        say(p, "250 2.1.0 OK\r\n");
        return true;
    }
    say(p, "552-5.3.4 Your message exceeded Google's limits\r\n"
           "552 5.3.4 https://support.google.com/mail/?p=MaxSizeError x\r\n");
    while (!atomic_load(&p->l->stop))
        usleep(10000);
    return false;
}

static bool
command(struct peer *p, const char *line)
{
    if (strncmp(line, "EHLO", 4) == 0)
        ehlo(p);
    else if (strcmp(line, "STARTTLS") == 0) {
        say(p, "220 2.0.0 Ready to start TLS\r\n");
        return handshake(p);
    } else if (strncmp(line, "AUTH ", 5) == 0)
        return auth(p, line);
    else if (strncmp(line, "MAIL ", 5) == 0)
        return mail(p);
    else if (strncmp(line, "BDAT ", 5) == 0)
        return bdat(p, line);
    else if (strcmp(line, "QUIT") == 0) {
        atomic_fetch_add(&p->l->quits, 1);
        say(p, "221 2.0.0 closing connection\r\n");
        return false;
    } else if (strncmp(line, "RCPT ", 5) == 0)
        rcpt(p);
    else if (strcmp(line, "RSET") == 0)
        say(p, "250 2.1.5 OK\r\n");
    else
        say(p, "502 5.5.1 Unrecognized command\r\n");
    return true;
}

static void *
serve(void *cookie)
{
    struct peer *p = cookie;
    struct liar *l = p->l;
    char line[10000];

    if (l->starttls || handshake(p)) {
        const char *greeting = l->greeting;

        say(p, greeting != NULL ? greeting : "220 smtp.example ESMTP x\r\n");
        while (greeting == NULL && next_line(p, line, sizeof line) &&
               command(p, line))
            ;
    }
    if (p->ssl != NULL)
        SSL_shutdown(p->ssl);
    ERR_clear_error();
    SSL_free(p->ssl);
    close(p->fd);
    atomic_fetch_sub(&l->open, 1);
    free(p);
    atomic_fetch_sub(&l->running, 1);
    return NULL;
}

static void *
listen_on(void *cookie)
{
    struct liar *l = cookie;

    for (;;) {
        int fd = accept(l->listener, NULL, NULL), open;
        struct peer *p;
        pthread_t t;

        if (fd < 0 || atomic_load(&l->stop)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        atomic_fetch_add(&l->connections, 1);
        open = atomic_fetch_add(&l->open, 1) + 1;
        if (open > atomic_load(&l->most_open))
            atomic_store(&l->most_open, open);
        p = calloc(1, sizeof *p);
        must(p != NULL, "calloc");
        p->l = l;
        p->fd = fd;
        atomic_fetch_add(&l->running, 1);
        must(pthread_create(&t, NULL, serve, p) == 0, "pthread_create");
        pthread_detach(t);
    }
}

void
liar_start(struct liar *l, const char *name)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    char alt[100];
    int fd;

    snprintf(alt, sizeof alt, "DNS:%s", name != NULL ? name : "smtp.example");
    l->ca = cert_new(NULL, "Test CA", NULL, -DAY, DAY, true);
    l->cert = cert_new(&l->ca, "server", alt, -DAY, DAY, false);
    l->ctx = tls_peer_ctx(&l->cert);
    snprintf(l->ca_file, sizeof l->ca_file, "/tmp/liar.XXXXXX");
    fd = mkstemp(l->ca_file);
    must(fd >= 0, "mkstemp");
    close(fd);
    cert_write_pem(&l->ca, l->ca_file);
    l->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(l->listener >= 0 &&
             bind(l->listener, (struct sockaddr *)&a, sizeof a) == 0 &&
             listen(l->listener, 128) == 0 &&
             getsockname(l->listener, (struct sockaddr *)&a, &len) == 0,
         "listen");
    l->port = ntohs(a.sin_port);
    must(pthread_create(&l->thread, NULL, listen_on, l) == 0, "pthread_create");
}

void
liar_stop(struct liar *l)
{
    atomic_store(&l->stop, true);
    shutdown(l->listener, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->listener);
    while (atomic_load(&l->running) > 0)
        usleep(1000);
    SSL_CTX_free(l->ctx);
    cert_free(&l->cert);
    cert_free(&l->ca);
    unlink(l->ca_file);
}
