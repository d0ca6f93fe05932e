/* milter/filter/pulse.h - does our filter still answer an MTA?
 * SPDX-License-Identifier: Apache-2.0
 *
 * libmilter serves in threads of its own, so that the main thread's being
 * alive says nothing about mail.
 */
#ifndef FILTER_PULSE_H
#define FILTER_PULSE_H

#include <stdbool.h>

/* Connects to the socket that the process itself listens on, as an MTA would,
 * negotiates and quits.  False when there is no good answer within limit_ms. */
bool pulse_beats(int listener, unsigned limit_ms);

#endif
