/* policy/netset.c - see netset.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/netset.h"

#include <stdlib.h>
#include <string.h>

bool
netset_holds(const struct network *net, const uint8_t address[16])
{
    unsigned octets = net->bits / 8, bits = net->bits % 8;

    if (net->bits > 128 || memcmp(net->address, address, octets) != 0)
        return false;
    return bits == 0 ||
           (net->address[octets] ^ address[octets]) >> (8 - bits) == 0;
}

/* The larger of two that begin alike comes first. */
static int
compare_network(const void *a, const void *b)
{
    const struct network *x = a, *y = b;
    int c = memcmp(x->address, y->address, sizeof x->address);

    return c != 0 ? c : (x->bits > y->bits) - (x->bits < y->bits);
}

size_t
netset_sort(struct network *net, size_t n)
{
    size_t kept = 0;

    if (n == 0)
        return 0;
    qsort(net, n, sizeof *net, compare_network);
    /* What holds a network begins before it, and with nothing kept between
     * that it does not hold. */
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !netset_holds(&net[kept - 1], net[i].address))
            net[kept++] = net[i];
    return kept;
}

bool
netset_has(const struct network *net, size_t n, const uint8_t address[16])
{
    size_t low = 0, high = n; /* the last that begins at or before it */

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(net[mid].address, address, 16) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && netset_holds(&net[low - 1], address);
}
