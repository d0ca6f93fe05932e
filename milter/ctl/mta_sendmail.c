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

/* Sendmail writes its reports with the addresses that it delivered to, and no
 * filter sees them.  So the report goes through a program that takes the tags
 * off and hands it in again.  A recipient who is the sender ($&f) is found
 * while a delivery stands behind us ($&u) only for a report; at RCPT and in a
 * queue run, where somebody writes to himself, $&u is empty.  A report that had
 * to wait in the queue has MAILER-DAEMON ($n) for a sender, what came by SMTP
 * with the null sender has none. */
static void
print_report_rules(void)
{
    puts("dnl reports to the sender (bounces, delays, successes) first go "
         "through\n"
         "dnl gmclean, which takes the tags off\n"
         "R$* < @ $+ > $*\t$: $1 < @ $2 > $3 $| $1 @ $2\n"
         "R$+ $| $+ .\t$: $1 $| $2\n"
         "R$+ $| $&f\t$: $1 $| $| $&u\n"
         "R$+ $| $| $+\t$#gmclean $@ report $: $1\n"
         "R$+ $| $+\t$: $1 $| $n\n"
         "R$+ $| $&f\t$#gmclean $@ report $: $1\n"
         "R$+ $| $+\t$: $1\n");
}

static void
print_report_mailer(void)
{
    puts("Mgmclean,\tP=/etc/mail/gmclean, F=DFMun8, "
         "S=EnvFromSMTP/HdrFromSMTP,\n"
         "\t\tR=EnvToSMTP/HdrFromSMTP, E=\\n, L=0, T=DNS/RFC822/X-Unix,\n"
         "\t\tA=gmclean $n $g $u\n");
}

static void
print_escaped(const char *domain)
{
    for (const char *c = domain; *c != 0; c++)
        printf(*c == '.' ? "\\." : "%c", *c);
}

/* The second expression is for the text, where Sendmail writes "..." for the
 * middle of a long address. */
static void
print_report_program(const char *domain)
{
    fputs("# ---- /etc/mail/gmclean (mode 0755) ----\n"
          "#!/bin/sh\n"
          "# takes the tags off a report and hands it in again:\n"
          "# gmclean MAILER-DAEMON SENDER RECIPIENT\n"
          "sender=$2\n"
          "case $2 in\n"
          "\"$1\" | \"$1\"@*) sender='<>' ;;\n"
          "esac\n"
          "LC_ALL=C sed -E \\\n"
          "    -e 's/\\.[a-z2-7]{48}\\.[a-z0-9-]+\\.q[0-9][0-9]\\.",
          stdout);
    print_escaped(domain);
    fputs("//g' \\\n"
          "    -e 's/(\\.a[e-h][a-z2-7]*)?\\.\\.\\.[a-z0-9-]*(\\.[a-z0-9-]+)?"
          "\\.q[0-9][0-9]\\.",
          stdout);
    print_escaped(domain);
    puts("/.../g' |\n"
         "    exec /usr/sbin/sendmail -i -f \"$sender\" -- \"$3\"");
}

void
mta_config_sendmail(const struct policy *p)
{
    print_filter(p->milter.listen);
    print_rules(p->milter.tag_domain);
    print_report_rules();
    print_mailer(p->deliver.listen);
    print_report_mailer();
    print_report_program(p->milter.tag_domain);
}
