/* tests/bench/bench_list.c - what a list file of so many entries costs.
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: bench_list [ENTRIES [KIND]]; KIND: address (default), domain, login,
 * ipv4, network.  Writes the file, loads a configuration that uses it as the
 * daemons do, and prints the time, the memory that was needed on the way and
 * what is left in use, in all and for each entry; then what a look-up takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/conf.h"
#include "policy/decide.h"

/* Of this process alone: others may be running. */
static double
cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A line of /proc/self/status, in KiB. */
static long
status_kib(const char *name)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[200];
    long kib = -1;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name) + 1, NULL, 10);
    if (f != NULL)
        fclose(f);
    return kib;
}

/* The i-th entry, in no order that a table could profit from. */
static void
entry_text(const char *kind, unsigned i, char ret[64])
{
    unsigned mixed = i * 2654435761u;

    if (strcmp(kind, "domain") == 0)
        snprintf(ret, 64, "d%u.example.net", mixed);
    else if (strcmp(kind, "login") == 0)
        snprintf(ret, 64, "login%u", mixed);
    else if (strcmp(kind, "ipv4") == 0)
        snprintf(ret, 64, "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255);
    else if (strcmp(kind, "network") == 0)
        snprintf(ret, 64, "%u.%u.%u.0/24", i >> 16 & 255, i >> 8 & 255,
                 i & 255);
    else
        snprintf(ret, 64, "user%u@example.com", mixed);
}

static void
write_files(const char *dir, const char *kind, unsigned n)
{
    static const char yaml[] =
        "gmroute: 1\n"
        "lists: {l: {file: l.txt}}\n"
        "rules: [{match: {any: [{sender: {list: l}}, {client: {list: l}},"
        " {sender_domain: {list: l}}]},"
        " route: mta}]\n";
    char path[64], text[64];
    FILE *f;

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    f = fopen(path, "w");
    if (f == NULL)
        exit(2);
    fputs(yaml, f);
    fclose(f);
    snprintf(path, sizeof path, "%s/l.txt", dir);
    f = fopen(path, "w");
    if (f == NULL)
        exit(2);
    for (unsigned i = 0; i < n; i++) {
        entry_text(kind, i, text);
        fprintf(f, "%s\n", text);
    }
    fclose(f);
}

static void
remove_files(const char *dir)
{
    char path[64];

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/l.txt", dir);
    unlink(path);
    rmdir(dir);
}

enum { LOOKUPS = 1000 * 1000 };

/* Decisions whose sender or client is asked for in the list; of the first
 * half of them the list holds what is asked for. */
static unsigned
look_up(const struct policy *p, const char *kind, unsigned n)
{
    struct scratch *s = scratch_new();
    unsigned hits = 0;

    for (unsigned i = 0; s != NULL && i < LOOKUPS; i++) {
        unsigned which = i < LOOKUPS / 2 ? i % n : n + i;
        struct facts f = {.stage = FACTS_EOM};
        struct decision decision;
        char text[64], domain[80];

        entry_text(kind, which, text);
        snprintf(domain, sizeof domain, "x@%s", text);
        if (strcmp(kind, "network") == 0 || strcmp(kind, "ipv4") == 0) {
            static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
            unsigned shift = strcmp(kind, "network") == 0 ? 8 : 0;
            uint32_t v4 = (shift == 0 ? 10u << 24 : 1u) + (which << shift);

            f.client.known = true;
            memcpy(f.client.address, mapped, sizeof mapped);
            for (unsigned k = 0; k < 4; k++)
                f.client.address[12 + k] = (uint8_t)(v4 >> (24 - 8 * k));
        } else {
            bool is_domain = strcmp(kind, "domain") == 0;

            f.sender = slice_of(is_domain ? domain : text);
        }
        if (decide(p, &f, SLICE_LIT("r@x.example"), s, &decision, NULL) ==
            DECIDE_OK)
            hits += decision.rule != NULL;
        scratch_reset(s);
    }
    scratch_free(s);
    return hits;
}

int
main(int argc, char **argv)
{
    static struct diag d;
    unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000 * 1000;
    const char *kind = argc > 2 ? argv[2] : "address";
    char dir[] = "/tmp/gmroute-bench-XXXXXX", path[64];
    struct policy *p;
    long before, peak, after;
    double start, took;
    unsigned hits;

    if (n == 0 || mkdtemp(dir) == NULL)
        return 2;
    write_files(dir, kind, n);
    snprintf(path, sizeof path, "%s/c.yaml", dir);
    before = status_kib("VmRSS:");
    start = cpu_ms();
    p = conf_load(path, &d);
    took = cpu_ms() - start;
    peak = status_kib("VmHWM:") - before;
    after = status_kib("VmRSS:") - before;
    remove_files(dir);
    if (p == NULL) {
        fprintf(stderr, "%s:%u: %s\n", d.item[0].at.file, d.item[0].at.line,
                d.item[0].text);
        return 1;
    }
    printf("%u entries (%s): %.0f ms of CPU, peak %.1f MiB, in use %.1f MiB, "
           "%.1f octets an entry\n",
           n, kind, took, (double)peak / 1024, (double)after / 1024,
           (double)after * 1024 / n);
    start = cpu_ms();
    hits = look_up(p, kind, n);
    took = cpu_ms() - start;
    printf("%d decisions, %u of them by the list: %.0f ns of CPU each\n",
           LOOKUPS, hits, took * 1e6 / LOOKUPS);
    policy_free(p);
    return 0;
}
