/* milter/base/parallel.c - see parallel.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/parallel.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

struct job {
    void (*part)(void *cookie, unsigned i, unsigned of);
    void *cookie;
    unsigned i, of;
};

static void *
work(void *arg)
{
    const struct job *j = arg;

    j->part(j->cookie, j->i, j->of);
    return NULL;
}

unsigned
parallel_parts(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n < PARALLEL_MAX ? (unsigned)n : PARALLEL_MAX;
}

void
parallel(unsigned of, void (*part)(void *cookie, unsigned i, unsigned of),
         void *cookie)
{
    struct job job[PARALLEL_MAX];
    pthread_t thread[PARALLEL_MAX];
    bool started[PARALLEL_MAX];

    for (unsigned i = 0; i < of; i++) {
        job[i] = (struct job){part, cookie, i, of};
        started[i] =
            i > 0 && pthread_create(&thread[i], NULL, work, &job[i]) == 0;
    }
    for (unsigned i = 0; i < of; i++)
        if (!started[i])
            work(&job[i]);
    for (unsigned i = 0; i < of; i++)
        if (started[i])
            pthread_join(thread[i], NULL);
}
