/* policy/proof.h - the tests that a policy carries with it (`tests:`).
 * SPDX-License-Identifier: Apache-2.0
 *
 * A proof is a small message and what should become of it.  It is decided at
 * the end of the message, as if every account had room and a usable token: the
 * first on the list gets it.  (Of a pool that picks by room or in turn, that is
 * the first member; so a test of its route had better name the pool.)
 */
#ifndef POLICY_PROOF_H
#define POLICY_PROOF_H

#include <stdbool.h>

#include "policy/decide.h"

struct proof {
    const char *name; /* given, or "test N", N from 1 */
    struct loc at;
    struct facts facts; /* at FACTS_EOM; all of it in the policy's arena */
    size_t n_recipients;
    const struct slice *recipient; /* each must come out as expected */
    enum action action;
    const struct account *account; /* ACCOUNT: by its name; or NULL */
    const struct pool *pool;       /* ACCOUNT: or by the pool; or NULL */
    const char *rule; /* its name; NULL = any; "default" = no rule */
};

/* Runs all; each that fails is an error in d at its place, saying what came
 * out, by which rule, and where that is.  What d holds already stays.  False =
 * one failed, or out of memory (an error at line 0). */
bool proof_run(const struct policy *p, struct diag *d);

#endif
