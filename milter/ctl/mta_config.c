/* milter/ctl/mta_config.c - gmroutectl mta-config: the lines that the MTA needs
 * for this configuration, each with its reason.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mta_config.h"

#include <string.h>

#include "milter/ctl/postconf.h"

struct options {
    const char *mta, *directory;
    bool acts;
    enum mta_apply act;
};

static const char synopsis[] =
    "postfix|sendmail [-c FILE]\n"
    "       gmroutectl mta-config postfix --apply|--dry-run|--undo "
    "[--config-directory DIR] [--json]";

static int
read_options(int argc, char **argv, struct options *ret)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];

        if (strcmp(word, "--config-directory") == 0 && i + 1 < argc) {
            ret->directory = argv[++i];
        } else if (strcmp(word, "--apply") == 0 ||
                   strcmp(word, "--dry-run") == 0 ||
                   strcmp(word, "--undo") == 0) {
            /* --apply --dry-run is what one writes, too */
            ret->acts = true;
            if (word[2] != 'a')
                ret->act = word[2] == 'u' ? MTA_UNDO : MTA_DRY_RUN;
        } else if (ret->mta == NULL && word[0] != '-') {
            ret->mta = word;
        } else {
            return ctl_usage("mta-config", synopsis, "unknown word %s", word);
        }
    }
    if (ret->mta == NULL)
        return ctl_usage("mta-config", synopsis, "which MTA?");
    if (strcmp(ret->mta, "postfix") != 0 && strcmp(ret->mta, "sendmail") != 0)
        return ctl_usage("mta-config", synopsis, "%s is not an MTA we know",
                         ret->mta);
    if ((ret->acts || ret->directory != NULL) && ret->mta[0] == 's')
        return ctl_usage("mta-config", synopsis,
                         "Sendmail's lines go into sendmail.mc by hand");
    return CTL_GOOD;
}

/* As Postfix comes, unless a directory is named: then as it is set there. */
static int
print_postfix(const struct policy *p, const char *directory)
{
    struct mta_settings *s = NULL;
    char err[400];
    bool good;

    if (directory != NULL) {
        s = postconf_read(directory, err, sizeof err);
        if (s == NULL) {
            fprintf(stderr, "gmroutectl: %s\n", err);
            return CTL_USAGE;
        }
    }
    good = mta_config_postfix(
        p, s != NULL ? s->directory : "/etc/postfix",
        s != NULL ? mta_main(s, "queue_directory") : "/var/spool/postfix");
    postconf_free(s);
    if (!good)
        fputs("gmroutectl: out of memory\n", stderr);
    return good ? CTL_GOOD : CTL_USAGE;
}

int
ctl_mta_config(struct ctl *c, int argc, char **argv)
{
    struct options o = {0};
    struct policy *p;
    int status = read_options(argc, argv, &o);

    if (status != CTL_GOOD)
        return status;
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_USAGE;
    if (o.mta[0] == 's')
        mta_config_sendmail(p);
    else if (o.acts)
        status = mta_config_apply(c, p, o.directory, o.act);
    else
        status = print_postfix(p, o.directory);
    policy_free(p);
    return status;
}
