/* tests/unit/base/tls_stage.h - certificates, a client that trusts one of them,
 * and streams with a TLS server at the other end.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TEST_TLS_STAGE_H
#define TEST_TLS_STAGE_H

#include "milter/base/clock.h"
#include "milter/base/stream.h"
#include "tests/unit/base/tls_peer.h"

enum { SOON = 60000 /* ms; long, for a slow machine: never waited out */ };

extern char directory[], ca_file[100];
extern struct cert ca, stranger, good; /* good: for smtp.example.com, by ca */
extern struct tls_client *client;      /* trusts ca */

uint64_t in_ms(uint64_t ms);
int setup(void **state);
int teardown(void **state);
struct stream *connect_to(struct tls_peer *p);
void say_hello(struct tls_peer *p);
enum stream_result read_all(struct stream *s, char *to, size_t len);
struct stream *bare_pair(int *ret_peer);
enum stream_result start(struct stream *s, uint64_t ms);
/* What a peer may do. */
void hang_up(struct tls_peer *p);
void goodbye(struct tls_peer *p);
void wait_for_eof(struct tls_peer *p);

#endif
