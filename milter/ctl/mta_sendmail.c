/* milter/ctl/mta_sendmail.c - what Sendmail needs for this configuration.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/mta_config.h"

/* Sendmail has libmilter's own syntax, but wants the word before a path. */
static void
print_filter(const char *listen)
{
    const char *kind = listen[0] == '/' ? "unix:" : "";

    printf("# ---- sendmail.mc: before MAILER(`smtp') ----\n"
           "dnl the filter; last in the list, behind any other milter, since "
           "a later\n"
           "dnl one could still refuse what ours has counted.  F=T: while it "
           "is down,\n"
           "dnl clients try again later\n"
           "INPUT_MAIL_FILTER(`gmroute', `S=%s%s, F=T, "
           "T=S:30s;R:60s;E:2m')dnl\n\n",
           kind, listen);
}

/* Rule lines have TABs between their fields. */
static void
print_rules(const char *domain)
{
    printf("# ---- sendmail.mc: behind MAILER(`smtp') ----\n"
           "dnl tagged recipients, and nothing else, go to the agent\n"
           "LOCAL_RULE_0\n"
           "R$* < @ $+ . $- . %s . > $*\t"
           "$#gmroute $@ $3 $: $1 < @ $2 . $3 . %s > $4\n"
           "R$* < @ $+ . $- . %s > $*\t"
           "$#gmroute $@ $3 $: $1 < @ $2 . $3 . %s > $4\n"
           "dnl whatever else stands below the tag domain must never leave by "
           "the\n"
           "dnl default route\n"
           "R$* < @ $* %s . > $*\t"
           "$#error $@ 4.3.5 $: \"451 4.3.5 malformed gmroute address\"\n\n",
           domain, domain, domain, domain, domain);
}

/* One socket for all accounts: over a cached connection Sendmail would send
 * the second account's recipients to the first one's socket. */
static void
print_mailer(const char *listen)
{
    const char *at = strchr(listen, '@');

    fputs("MAILER_DEFINITIONS\n"
          "dnl z: LMTP; m: many recipients at once; 8: pass eight bits\n"
          "Mgmroute,\tP=[IPC], F=mDFMuXzn8, S=EnvFromSMTP/HdrFromSMTP, "
          "R=EnvToSMTP/HdrFromSMTP,\n"
          "\t\tE=\\r\\n, L=2040, T=DNS/RFC822/SMTP,\n",
          stdout);
    if (strncmp(listen, "unix:", 5) == 0)
        printf("\t\tA=FILE %s\n", listen + 5);
    else
        printf("\t\tA=TCP %s %.*s\n", at != NULL ? at + 1 : "127.0.0.1",
               (int)(at != NULL ? at - listen - 5 : (long)strlen(listen + 5)),
               listen + 5);
}

void
mta_config_sendmail(const struct policy *p)
{
    print_filter(p->milter.listen);
    print_rules(p->milter.tag_domain);
    print_mailer(p->deliver.listen);
}
