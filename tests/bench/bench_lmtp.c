/* tests/bench/bench_lmtp.c - the agent driven as an MTA would, and faster: many
 * LMTP connections, each message with a ticket of its own.
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_lmtp CONFIG SOCKET CONNECTIONS MESSAGES SIZE [RATE TROUBLED]
 *
 * The accounts of the configuration take turns.  Without RATE: all connections
 * send as fast as they are answered.  With RATE (messages a second): messages
 * arrive at that pace, each waits in the queue of its account's label, and
 * CONNECTIONS serve each label, as Postfix does; the first TROUBLED accounts
 * are not counted.  Prints what came of it as one line of JSON; ms are from
 * arrival to the last reply.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/conf.h"
#include "policy/ticket.h"

enum { REPLIES_MAX = 4096, ADDRESS_ROOM = 2 * TAGGED_MAX + 200 };

struct letter {
    unsigned account;
    double ms; /* < 0: refused */
};

struct queue { /* of one label, or of all */
    size_t n;
    size_t *letter; /* in order of arrival */
    atomic_size_t next;
};

static struct {
    const struct policy *policy;
    struct ticket_keys keys;
    struct sockaddr_un at;
    char *content; /* with its final dot */
    size_t content_len;
    unsigned connections, rate, troubled;
    size_t n;
    struct letter *letter;
    uint64_t first_ticket;
    double began_ms;
} bench;

static double
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void
fail(const char *what)
{
    fprintf(stderr, "bench_lmtp: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- one connection ---- */

static void
say(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            fail("the agent hung up");
        text += n;
        len -= (size_t)n;
    }
}

/* Reads `want` replies; the code of the last one, 0 when one of the others was
 * no 2xx. */
static int
hear(int fd, unsigned want)
{
    char in[REPLIES_MAX];
    size_t len = 0;
    int last = 0;
    bool good = true;

    while (want > 0) {
        char *line = in, *end;
        ssize_t n = read(fd, in + len, sizeof in - len);

        if (n <= 0)
            fail("the agent hung up");
        len += (size_t)n;
        while (want > 0 &&
               (end = memchr(line, '\n', len - (size_t)(line - in))) != NULL) {
            if (line[3] != '-' && --want > 0)
                good = good && line[0] == '2';
            else if (line[3] != '-')
                last = atoi(line);
            line = end + 1;
        }
        len -= (size_t)(line - in);
        memmove(in, line, len);
    }
    return good ? last : 0;
}

static bool
send_letter(int fd, size_t i)
{
    const struct account *a = &bench.policy->accounts[bench.letter[i].account];
    struct mailbox m = {.account = a, .id = a->id};
    struct ticket t = {.number = bench.first_ticket + i,
                       .minute = (uint32_t)(time(NULL) / 60),
                       .from = FROM_KEEP,
                       .share_percent = 100};
    char tagged[TAGGED_MAX + 1], text[ADDRESS_ROOM];
    int n;

    snprintf(m.address, sizeof m.address, "%s", a->address);
    if (ticket_write(&t, SLICE_LIT("you@far.test"), &m,
                     bench.policy->milter.tag_domain, &bench.keys,
                     tagged) != TICKET_OK)
        fail("no ticket");
    n = snprintf(text, sizeof text,
                 "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", a->address,
                 tagged);
    say(fd, text, (size_t)n);
    if (hear(fd, 3) != 354)
        return false;
    say(fd, bench.content, bench.content_len);
    return hear(fd, 1) == 250;
}

static void
wait_until(double ms)
{
    double left = ms - now_ms();
    struct timespec t;

    if (left <= 0)
        return;
    t.tv_sec = (time_t)(left / 1e3);
    t.tv_nsec = (long)((left - (double)t.tv_sec * 1e3) * 1e6);
    nanosleep(&t, NULL);
}

static void *
serve(void *cookie)
{
    struct queue *q = cookie;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t k;

    if (fd < 0 ||
        connect(fd, (const struct sockaddr *)&bench.at, sizeof bench.at) != 0)
        fail(bench.at.sun_path);
    hear(fd, 1);
    say(fd, "LHLO bench.test\r\n", 17);
    hear(fd, 1);
    while ((k = atomic_fetch_add(&q->next, 1)) < q->n) {
        size_t i = q->letter[k];
        double arrived = now_ms();

        if (bench.rate != 0) {
            arrived = bench.began_ms + (double)i * 1e3 / bench.rate;
            wait_until(arrived);
        }
        bench.letter[i].ms = send_letter(fd, i) ? now_ms() - arrived : -1;
    }
    close(fd);
    return NULL;
}

/* ---- all of them ---- */

static void
run(struct queue *queue, size_t n_queues)
{
    size_t n = n_queues * bench.connections;
    pthread_t *thread = calloc(n, sizeof *thread);
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    bench.began_ms = now_ms();
    for (size_t i = 0; i < n; i++)
        if (thread == NULL ||
            pthread_create(&thread[i], &attr, serve, &queue[i % n_queues]) != 0)
            fail("cannot start a thread");
    for (size_t i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    pthread_attr_destroy(&attr);
    free(thread);
}

static struct queue *
make_queues(size_t n_queues)
{
    struct queue *queue = calloc(n_queues, sizeof *queue);

    bench.letter = calloc(bench.n, sizeof *bench.letter);
    for (size_t q = 0; q < n_queues; q++) {
        queue[q].letter = calloc(bench.n, sizeof *queue[q].letter);
        if (queue[q].letter == NULL || bench.letter == NULL)
            fail("memory");
    }
    for (size_t i = 0; i < bench.n; i++) {
        unsigned a = (unsigned)(i % bench.policy->n_accounts);
        struct queue *q =
            &queue[n_queues > 1 ? ticket_queue(bench.policy->accounts[a].id)
                                : 0];

        bench.letter[i].account = a;
        q->letter[q->n++] = i;
    }
    return queue;
}

static void
make_content(size_t size)
{
    static const char header[] =
        "From: a@example.com\r\nTo: you@far.test\r\nSubject: bench\r\n"
        "Date: Sun, 01 Mar 2026 10:00:00 +0000\r\n"
        "Message-ID: <bench@example.com>\r\n\r\n";
    size_t n = sizeof header - 1, room = n + size + 100;
    char *c = malloc(room);

    if (c == NULL)
        fail("memory");
    memcpy(c, header, n);
    while (n + 2 < size) {
        size_t line = size - n - 2 < 76 ? size - n - 2 : 76;

        memset(c + n, 'x', line);
        memcpy(c + n + line, "\r\n", 2);
        n += line + 2;
    }
    memcpy(c + n, ".\r\n", 3);
    bench.content = c;
    bench.content_len = n + 3;
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void
report(void)
{
    double *ms = calloc(bench.n, sizeof *ms), seconds;
    size_t n = 0, refused = 0;

    if (ms == NULL)
        fail("memory");
    seconds = (now_ms() - bench.began_ms) / 1e3;
    for (size_t i = 0; i < bench.n; i++) {
        if (bench.letter[i].account < bench.troubled)
            continue;
        if (bench.letter[i].ms < 0)
            refused++;
        else
            ms[n++] = bench.letter[i].ms;
    }
    qsort(ms, n, sizeof *ms, by_value);
    printf("{\"sent\": %zu, \"refused\": %zu, \"seconds\": %.2f, "
           "\"per_second\": %.1f, \"ms_p50\": %.1f, \"ms_p99\": %.1f}\n",
           n, refused, seconds, (double)n / seconds, n > 0 ? ms[n / 2] : 0,
           n > 0 ? ms[n * 99 / 100] : 0);
    free(ms);
}

static void
load(const char *file)
{
    struct diag d = {0};
    struct policy *p = conf_load(file, &d);
    char err[300];

    if (p == NULL || p->n_accounts == 0)
        fail(file);
    bench.policy = p;
    if (!conf_ticket_keys(p->state.directory, &bench.keys, err, sizeof err)) {
        fprintf(stderr, "bench_lmtp: %s\n", err);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    struct timespec t;
    struct queue *queue;
    size_t n_queues;

    if (argc != 6 && argc != 8) {
        fprintf(stderr, "usage: bench_lmtp CONFIG SOCKET CONNECTIONS MESSAGES "
                        "SIZE [RATE TROUBLED]\n");
        return 2;
    }
    load(argv[1]);
    bench.at.sun_family = AF_UNIX;
    snprintf(bench.at.sun_path, sizeof bench.at.sun_path, "%s", argv[2]);
    bench.connections = (unsigned)atoi(argv[3]);
    bench.n = (size_t)atol(argv[4]);
    make_content((size_t)atol(argv[5]));
    if (argc == 8) {
        bench.rate = (unsigned)atoi(argv[6]);
        bench.troubled = (unsigned)atoi(argv[7]);
    }
    clock_gettime(CLOCK_REALTIME, &t);
    bench.first_ticket = (uint64_t)t.tv_sec << 32 | (uint64_t)t.tv_nsec;
    n_queues = bench.rate != 0 ? TICKET_QUEUES : 1;
    queue = make_queues(n_queues);
    run(queue, n_queues);
    report();
    return 0;
}
