/* tests/unit/policy/test_compile_include.c - mirrors
 * policy/compile_include.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compile_case.h"
#include "policy/rule.h"

#define ACCOUNT_IN(dir, name)                                   \
    "accounts: {" name ": {address: " name "@" dir ".example, " \
    "auth: {password_file: pw}}}\n"

static const struct {
    const char *path, *text;
} files[] = {
    {"/c/a.yaml", "include: sub/x.yaml\n"
                  "rules:\n"
                  "  - {match: {auth: a}, route: mta}\n" ACCOUNT_IN("a", "a")},
    {"/c/sub/x.yaml", "include: ['y.yaml']\n" ACCOUNT_IN(
                          "x", "x") "rules:\n"
                                    "  - {match: {auth: x}, route: {account: "
                                    "a}}\n"},
    {"/c/sub/y.yaml", "gmroute: 1\n"
                      "lists: {l: {file: l.txt}}\n" ACCOUNT_IN(
                          "y", "y") "rules:\n"
                                    "  - {match: {sender: {list: l}}, route: "
                                    "{account: y}}\n"
                                    "  - {match: {auth: y}, route: {account: "
                                    "x}}\n"},
    {"/c/sub/l.txt", "y@y.example\n"},
    {"/c/b.yaml", "rules: [{name: b, match: {auth: b}, route: mta}]\n"},
    {"/c/list.yaml", "rules: [{match: {auth: b}, route: mta}]\n"
                     "pools: []\n"},
    {"/c/twice.yaml",
     "accounts:\n"
     "  b: {address: b@x.example, auth: none, smarthost: gmail_relay}\n"
     "  a: {address: c@x.example, auth: none, smarthost: gmail_relay}\n"
     "  c: {address: a@x.example, auth: none, smarthost: gmail_relay}\n"
     "rules:\n"
     "  - {name: r, match: {auth: a}, route: {account: b}}\n"},
    {"/c/self.yaml", "include: ['*self.yaml']\n"},
    {"/c/main.yaml", "rules: []\ninclude: ././f\n"},
    {"/c/around.yaml", "\ninclude: [b.yaml, deep/one.yaml]\n"},
    {"/c/deep/one.yaml", "include: two.yaml\n"},
    {"/c/deep/two.yaml", "\n\ninclude: /c//around.yaml\n"},
    {"/c/again.yaml", "include: ./b.yaml\n"},
    {"/c/keys.yaml", "gmroute: 2\nhostname: x.example\nrulse: []\n"
                     "default: mta\nrules: []\ninclude: 5.yaml\n"},
    {"/c/word.yaml", "rules\n"},
    {"/c/empty.yaml", "# nothing\n"},
    {"/c/broken.yaml", "accounts: {a: {\n"},
    {"/c/conf.d/20.yaml", "rules: [{name: '20', match: {auth: c}, route: "
                          "mta}]\n"},
    {"/c/conf.d/.10.yaml", "hidden\n"},
    {"/c/conf.d/10.yaml", "rules: [{name: '10', match: {auth: d}, route: "
                          "mta}]\n"},
    {"/c/conf.d/9.yml", "also hidden\n"},
    {"/c [1]/f", HEAD "include: '*.yaml'\n"},
    {"/c [1]/r.yaml", "rules: [{name: r, match: {auth: b}, route: mta}]\n"},
};

/* Made on the way: "/n/7" includes "/n/8", and so on for ever. */
static char made[64];
static char many[1001][64]; /* "/many/0000" and so on: a rule each */

static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    unsigned number;

    (void)cookie;
    for (size_t i = 0; i < LENGTH(files); i++)
        if (strcmp(files[i].path, path) == 0) {
            *ret_text = files[i].text;
            *ret_len = strlen(files[i].text);
            return true;
        }
    if (sscanf(path, "/n/%u", &number) == 1) {
        snprintf(made, sizeof made, "include: /n/%u\n", number + 1);
        *ret_text = made;
        *ret_len = strlen(made);
        return true;
    }
    if (sscanf(path, "/many/%u", &number) == 1 && number < LENGTH(many)) {
        snprintf(many[number], sizeof many[number],
                 "rules: [{match: {auth: a%u}, route: mta}]\n", number);
        *ret_text = many[number];
        *ret_len = strlen(many[number]);
        return true;
    }
    snprintf(err, err_size, "No such file or directory");
    return false;
}

static int
compare_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
find_files(void *cookie, const char *pattern, const char *const **ret,
           size_t *ret_n, char *err, size_t err_size)
{
    static const char *found[2000];
    static char name[2000][20];
    unsigned n_many;

    (void)cookie;
    *ret_n = 0;
    if (strcmp(pattern, "/locked/*") == 0) {
        snprintf(err, err_size, "Permission denied");
        return false;
    }
    if (sscanf(pattern, "/many%u/*", &n_many) == 1)
        for (unsigned i = 0; i < n_many; i++) {
            snprintf(name[i], sizeof name[i], "/many/%04u", i);
            found[(*ret_n)++] = name[i];
        }
    for (size_t i = 0; i < LENGTH(files); i++)
        if (fnmatch(pattern, files[i].path, FNM_PATHNAME | FNM_PERIOD) == 0)
            found[(*ret_n)++] = files[i].path;
    qsort(found, *ret_n, sizeof *found, compare_path);
    *ret = found;
    return true;
}

static const struct policy_files all_files = {.read_file = read_file,
                                              .glob = find_files};

static const struct compile_row rows[] = {
    {"no such pattern", 0, HEAD "include: [nothing/*.yaml, '[z].yaml']\n", ""},
    {"null", 0, HEAD "include:\n",
     "2:9: include: want a list of paths and patterns, found nothing\n"},
    {"map", 0, HEAD "include: {a: b}\n",
     "2:10: include: want a list of paths and patterns, found a map\n"},
    {"nested list", 0, HEAD "include: [[a.yaml], '']\n",
     "2:11: include: want a path or pattern, found a list\n"
     "2:21: include: want a path or pattern, found \"\"\n"},
    {"lines", 0, HEAD "include: |\n  a.yaml\n  b.yaml\n",
     "2:10: include: a line break in \"a.yaml?b.yaml?\": a list is written "
     "[a, b]\n"},
    {"missing", 0, HEAD "include: [b.yaml, c.yaml]\n",
     "2:19: include: cannot read /c/c.yaml: No such file or directory\n"},
    /* What it held is not called unknown as well. */
    {"missing, and names", 0,
     HEAD "include: c.yaml\n"
          "rules: [{match: {sender: {list: l}}, route: {account: a}}]\n"
          "tests: [{recipient: a@b, expect: mta, rule: there}]\n"
          "default: {pool: p}\n",
     "2:10: include: cannot read /c/c.yaml: No such file or directory\n"},
    {"broken, and names", 0,
     HEAD "include: broken.yaml\ndefault: {account: a}\n",
     "/c/broken.yaml:2:1: did not find expected node content, while parsing "
     "a flow node\n"},
    {"unreadable directory", 0, HEAD "include: /locked/*\n",
     "2:10: include: \"/locked/*\": Permission denied\n"},
    {"empty", 0, HEAD "include: empty.yaml\n",
     "/c/empty.yaml:1:1: the file is empty\n"},
    {"word", 0, HEAD "include: word.yaml\n",
     "/c/word.yaml:1:1: want keys and their values (rules: and so on), found "
     "\"rules\"\n"},
    {"keys of the main file", 0, HEAD "include: keys.yaml\n",
     "/c/keys.yaml:1:10: gmroute: format version \"2\" is not known: this "
     "program reads version 1\n"
     "/c/keys.yaml:2:1: hostname belongs into the main file, /c/f\n"
     "/c/keys.yaml:3:1: unknown key \"rulse\" in the configuration; did you "
     "mean \"rules\"?\n"
     "/c/keys.yaml:4:1: default belongs into the main file, /c/f\n"
     "/c/keys.yaml:6:10: include: cannot read /c/5.yaml: No such file or "
     "directory\n"},
    {"another kind of section", 0,
     HEAD "include: list.yaml\n"
          "pools: {p: {accounts: a}}\n"
          "rules: {}\n",
     "4:8: rules: want a list of rules, found a map\n"
     "/c/list.yaml:2:8: pools: want a map of pools, found a list\n"},
    {"defined twice", 0,
     ACCOUNT "include: twice.yaml\n"
             "rules: [{name: r, match: {auth: x}, route: {account: a}}]\n",
     "/c/twice.yaml:3:3: \"a\" is defined twice, first in f:2\n"
     "/c/twice.yaml:4:3: account \"c\" has the address and smarthost of "
     "account \"a\" in f:2\n"
     "/c/twice.yaml:6:12: the rule in f:4 has the name \"r\" too\n"},
    {"itself", 0, HEAD "include: f\n",
     "2:10: include: f includes itself: f:2\n"},
    {"itself by a pattern", 0, HEAD "include: self.yaml\n",
     "/c/self.yaml:1:11: include: self.yaml includes itself: f:2 -> "
     "self.yaml:1\n"},
    {"the main file", 0, HEAD "include: main.yaml\n",
     "/c/main.yaml:2:10: include: f includes itself: f:2 -> main.yaml:2\n"},
    {"around", 0, HEAD "include: around.yaml\n",
     "/c/deep/two.yaml:3:10: include: around.yaml includes itself: f:2 -> "
     "around.yaml:2 -> deep/one.yaml:1 -> deep/two.yaml:3\n"},
    {"twice", 0, HEAD "include: [b.yaml, .//b.yaml, again.yaml]\n",
     "/c/again.yaml:1:10: include: b.yaml is included twice, first by f:2\n"
     "2:19: include: b.yaml is included twice, first by f:2\n"},
    {"for ever", 0, HEAD "include: /n/1\n",
     "/n/16:1:10: include: more than 16 files inside one another\n"},
    {"1000 files", 0, HEAD "include: /many1000/*\n", ""},
    {"1001 files", 0, HEAD "include: [/many1001/*, b.yaml]\n",
     "2:11: include: more than 1000 files\n"},
};

static void
what_is_said(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, rows, LENGTH(rows));
}

static void
without_files(void **state)
{
    static const struct compile_row none[] = {
        {"file", 0, HEAD "include: b.yaml\n",
         "2:10: include: files cannot be read here\n"},
    };
    static const struct compile_row no_glob[] = {
        {"pattern", 0, HEAD "include: [b.yaml, '*.yaml']\n",
         "2:19: include: patterns cannot be used here\n"},
    };
    const struct policy_files reader = {.read_file = read_file};

    (void)state;
    compile_case_check_in(NULL, none, LENGTH(none));
    compile_case_check_in(&(struct policy_files){.read_file = NULL}, none,
                          LENGTH(none));
    compile_case_check_in(&reader, no_glob, LENGTH(no_glob));
}

static struct policy *
good(const char *file, const char *yaml)
{
    static struct diag d;
    struct policy *p = policy_compile(yaml, strlen(yaml), file, &all_files, &d);

    for (unsigned i = 0; i < d.n; i++)
        print_message("%s:%u: %s\n", d.item[i].at.file, d.item[i].at.line,
                      d.item[i].text);
    assert_non_null(p);
    return p;
}

/* A file's own rules, then those of its includes; each knows its place. */
static void
rules_keep_their_order_and_place(void **state)
{
    static const struct {
        const char *name, *file;
        unsigned line;
    } want[] = {
        {"rule 1", "/c/f", 4},          {"rule 2", "/c/a.yaml", 3},
        {"rule 3", "/c/sub/x.yaml", 4}, {"rule 4", "/c/sub/y.yaml", 5},
        {"rule 5", "/c/sub/y.yaml", 6}, {"b", "/c/b.yaml", 1},
        {"10", "/c/conf.d/10.yaml", 1}, {"20", "/c/conf.d/20.yaml", 1},
    };
    struct policy *p =
        good("/c/f", HEAD "include: [a.yaml, b.yaml, conf.d/*.yaml]\n"
                          "rules:\n"
                          "  - {match: {auth: m}, route: {account: y}}\n");

    (void)state;
    assert_int_equal(p->n_rules, LENGTH(want));
    for (size_t i = 0; i < LENGTH(want); i++) {
        assert_string_equal(p->rules[i].name, want[i].name);
        assert_string_equal(p->rules[i].at.file, want[i].file);
        assert_int_equal(p->rules[i].at.line, want[i].line);
    }
    assert_string_equal(p->file, "/c/f");
    policy_free(p);
}

/* Names work across files; a path is relative to the file it stands in. */
static void
names_and_paths(void **state)
{
    struct policy *p = good("/c/f", HEAD "include: a.yaml\n");

    (void)state;
    assert_int_equal(p->n_accounts, 3);
    assert_string_equal(policy_account(p, "a")->secret_file, "/c/pw");
    assert_string_equal(policy_account(p, "x")->secret_file, "/c/sub/pw");
    assert_string_equal(policy_account(p, "y")->secret_file, "/c/sub/pw");
    policy_free(p);
}

/* A directory's name is no pattern, whatever it holds. */
static void
wild_directory(void **state)
{
    struct policy *p = good("/c [1]/f", files[LENGTH(files) - 2].text);

    (void)state;
    assert_int_equal(p->n_rules, 1);
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said),
        cmocka_unit_test(without_files),
        cmocka_unit_test(rules_keep_their_order_and_place),
        cmocka_unit_test(names_and_paths),
        cmocka_unit_test(wild_directory),
    };

    return cmocka_run_group_tests_name("policy/compile_include", tests, NULL,
                                       NULL);
}
