/* milter/ctl/untag.c - see untag.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/untag.h"

/* The label behind the last dot of s, which goes away with it. */
static struct slice
take_last_label(struct slice *s)
{
    const char *dot = s->len > 0 ? memrchr(s->at, '.', s->len) : NULL;
    size_t n = dot != NULL ? (size_t)(dot - s->at) : 0;
    struct slice label = slice_from(*s, dot != NULL ? n + 1 : 0);

    s->len = n;
    return label;
}

static bool
is_queue(struct slice label)
{
    return label.len == 3 && slice_lower(label.at[0]) == 'q' &&
           label.at[1] >= '0' && label.at[1] <= '9' && label.at[2] >= '0' &&
           label.at[2] <= '9';
}

bool
untag(struct slice address, const char *tag_domain, struct untagged *ret)
{
    struct slice s = address, tail = slice_of(tag_domain), label;

    if (s.len > 0 && s.at[s.len - 1] == '.')
        s.len--;
    if (s.len > TAGGED_MAX || !slice_ends_nocase(s, tail) ||
        s.len <= tail.len || s.at[s.len - tail.len - 1] != '.')
        return false;
    s.len -= tail.len + 1;
    if (!is_queue(take_last_label(&s)))
        return false;
    label = take_last_label(&s);
    if (label.len == 0 || label.len > LABEL_MAX ||
        take_last_label(&s).len != TICKET_LABEL)
        return false;
    if (s.len == 0 || memrchr(s.at, '@', s.len) == NULL ||
        s.at[s.len - 1] == '@')
        return false;
    memcpy(ret->label, label.at, label.len);
    ret->label[label.len] = '\0';
    memcpy(ret->recipient, s.at, s.len);
    ret->recipient[s.len] = '\0';
    return true;
}
