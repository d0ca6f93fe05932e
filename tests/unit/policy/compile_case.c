/* tests/unit/policy/compile_case.c - see compile_case.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "compile_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy/tzif.h"

static const struct {
    const char *path, *text;
} files[] = {
    {"/c/good.txt", "# c\na@x.example\n"},
    {"/c/empty.txt", "# nothing\n"},
    {"/c/bad.txt", "a@x.example\n"
                   "  10.0.0.1/8\n"
                   "\001\n"
                   "\377\n"
                   "/(/ # c\n"},
    {"/c/map.txt", "ann Ann@x.example\n"
                   "bob\n"
                   "c d e\n"
                   "@ f\n"
                   "g h@y.example\n"
                   "ANN other\n"},
    {"/c/logins.txt", "\357\273\277Zoe\r\nann # comment\r\nzoe\n\n b#b"},
    {"/c/aliases.txt", "sales\tann\nInfo@other.example bob@x.example\n"},
    {"/c/list.txt", "*@glob.example\n/^re/\nplain@x.example\n"
                    "10.0.0.0/8\n192.0.2.7\n2001:DB8:0:0::1\n.sub.example\n"},
    {"/usr/share/zoneinfo/Etc/Text", "not a zone"},
};

static const char berlin[] = TZIF_RULE("CET-1CEST,M3.5.0,M10.5.0/3");

static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    (void)cookie;
    if (strcmp(path, "/usr/share/zoneinfo/Europe/Berlin") == 0) {
        *ret_text = berlin;
        *ret_len = sizeof berlin - 1;
        return true;
    }
    for (size_t i = 0; i < LENGTH(files); i++)
        if (strcmp(files[i].path, path) == 0) {
            *ret_text = files[i].text;
            *ret_len = strlen(files[i].text);
            return true;
        }
    snprintf(err, err_size, "No such file or directory");
    return false;
}

const struct policy_files compile_case_files = {.read_file = read_file};

static void
show(const struct diag *d, char *ret, size_t size)
{
    size_t n = 0;

    ret[0] = '\0';
    for (unsigned i = 0; i < d->n && n < size; i++) {
        const struct diag_item *x = &d->item[i];
        bool other = strcmp(x->at.file, "/c/f") != 0;

        n += (size_t)snprintf(
            ret + n, size - n, "%s%s%u:%u: %s%s\n", other ? x->at.file : "",
            other ? ":" : "", x->at.line, x->at.col,
            x->level == DIAG_WARNING ? "warning: " : "", x->text);
    }
}

void
compile_case_check(const struct compile_row *row, size_t n)
{
    compile_case_check_in(&compile_case_files, row, n);
}

void
compile_case_check_in(const struct policy_files *with,
                      const struct compile_row *row, size_t n)
{
    static struct diag d;
    static char got[100 * 1024];
    unsigned bad = 0;

    for (size_t i = 0; i < n; i++) {
        size_t len = row[i].len > 0 ? row[i].len : strlen(row[i].yaml);
        char *file = strdup("/c/f"), *text = malloc(len + 1);
        struct policy *p;

        /* Exactly as large as it is, and gone before the diag is read. */
        memcpy(text, row[i].yaml, len);
        p = policy_compile(text, len, file, with, &d);
        free(text);
        memset(file, 'x', strlen(file));
        free(file);
        show(&d, got, sizeof got);
        if (strcmp(got, row[i].want) != 0) {
            print_error("%s:\n%s\nwant:\n%s\n", row[i].name, got, row[i].want);
            bad++;
        }
        assert_int_equal(p == NULL, d.n_errors > 0);
        policy_free(p);
    }
    assert_int_equal(bad, 0);
}

struct policy *
compile_case_good(const char *yaml)
{
    static struct diag d;
    static char got[10 * 1024];
    struct policy *p =
        policy_compile(yaml, strlen(yaml), "/c/f", &compile_case_files, &d);

    show(&d, got, sizeof got);
    if (p == NULL)
        print_error("%s\n", got);
    assert_non_null(p);
    return p;
}
