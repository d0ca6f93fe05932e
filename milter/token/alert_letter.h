/* milter/token/alert_letter.h - an alert in words: what is to be done, and the
 * mail.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  A subject may be an address that somebody else has chosen (a sender of
 * a template): it comes into no command line unquoted, and into no header with
 * anything but plain characters.
 */
#ifndef TOKEN_ALERT_LETTER_H
#define TOKEN_ALERT_LETTER_H

#include "milter/token/alert.h"

enum { ALERT_REMEDY_MAX = 599, ALERT_LETTER_MAX = 3500 };

/* One line; "" when it is ok. */
void alert_remedy(const struct alert *a, char ret[ALERT_REMEDY_MAX + 1]);

/* Header and body, lines ended by \n alone. */
void alert_letter(const struct alert *a, const char *host, const char *to,
                  char ret[ALERT_LETTER_MAX + 1]);

#endif
