/* tests/unit/policy/test_tree.c - mirrors policy/tree.c, node.c, utf8.c and
 * scalar.c.  What is said of bad YAML: test_compile_settings.c.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/arena.h"
#include "policy/scalar.h"
#include "policy/suggest.h"
#include "policy/tree.h"
#include "policy/utf8.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

static struct arena *arena;
static struct diag d;

static int
setup(void **state)
{
    (void)state;
    memset(&d, 0, sizeof d);
    arena = arena_new();
    return arena == NULL;
}

static int
teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static struct node *
read_tree(const char *text, enum tree_result want)
{
    struct node *root;

    assert_int_equal(tree_read(arena, text, strlen(text), "f", &d, &root),
                     want);
    return root;
}

/* "line:col kind" of every node, depth first. */
static void
show(const struct node *n, char *ret)
{
    sprintf(ret + strlen(ret), "%u:%u", n->at.line, n->at.col);
    if (n->kind == NODE_SCALAR) {
        sprintf(ret + strlen(ret), "%s%.*s%s ", n->quoted ? "'" : "=",
                SLICE_FMT(n->text), n->quoted ? "'" : "");
        return;
    }
    strcat(ret, n->kind == NODE_LIST ? "[ " : "{ ");
    for (size_t i = 0; i < n->n; i++) {
        if (n->kind == NODE_MAP)
            show(n->key[i], ret);
        show(n->item[i], ret);
    }
    strcat(ret, n->kind == NODE_LIST ? "] " : "} ");
}

static void
every_node_knows_its_place(void **state)
{
    static const struct {
        const char *name, *yaml, *want;
    } rows[] = {
        {"block", "a: 1\nb:\n  - x\n  - y: z\n",
         "1:1{ 1:1=a 1:4=1 2:1=b 3:3[ 3:5=x 4:5{ 4:5=y 4:8=z } ] } "},
        {"flow", "{a: [1, 'b', \"c\"], d: }",
         "1:1{ 1:2=a 1:5[ 1:6=1 1:9'b' 1:14'c' ] 1:20=d 1:23= } "},
        {"columns are characters", "\"\303\244\303\266\": x\n",
         "1:1{ 1:1'\303\244\303\266' 1:7=x } "},
        {"byte order mark", "\357\273\277a: 1\n", "1:1{ 1:1=a 1:4=1 } "},
        {"CR LF", "a: 1\r\nb: 2\r\n", "1:1{ 1:1=a 1:4=1 2:1=b 2:4=2 } "},
        {"block text", "a: |\n  x\n  y\n", "1:1{ 1:1=a 1:4'x\ny\n' } "},
        {"alias", "a: &x [1]\nb: *x\n",
         "1:1{ 1:1=a 1:4[ 1:8=1 ] 2:1=b 1:4[ 1:8=1 ] } "},
        {"anchor given again", "[&x 1, *x, &x 2, *x]",
         "1:1[ 1:2=1 1:2=1 1:12=2 1:12=2 ] "},
        {"no tag is a tag", "[! a]", "1:1[ 1:2=a ] "},
        {"directive", "%YAML 1.1\n---\na\n...\n", "3:1=a "},
        {"empty ones", "[{}, []]", "1:1[ 1:2{ } 1:6[ ] ] "},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char got[1000] = "";

        print_message("  %s\n", rows[i].name);
        show(read_tree(rows[i].yaml, TREE_OK), got);
        assert_string_equal(got, rows[i].want);
        assert_int_equal(d.n, 0);
    }
}

static void
goes_on_where_it_can(void **state)
{
    struct node *root =
        read_tree("{a: 1, a: 2, b: !t 3, \"\\0\": 4}", TREE_EINVAL);

    (void)state;
    assert_int_equal(d.n_errors, 3);
    assert_int_equal(root->n, 4);
    assert_string_equal(node_get(root, "a")->text.at, "1");
    assert_string_equal(node_get(root, "b")->text.at, "3");
    assert_null(node_get(root, "c"));
    assert_null(read_tree("{a: 1, ", TREE_EINVAL));
}

/* With the place of each, and only what test_compile_settings.c has not. */
static void
refused_where_it_stands(void **state)
{
    static const struct {
        const char *name, *yaml;
        size_t len; /* 0: up to the NUL */
        const char *want;
    } rows[] = {
        {"UTF-16, little end first", "\377\376a\0", 4,
         "1:1 the file is UTF-16: save it as UTF-8"},
        {"UTF-16, big end first", "\376\377\0a", 4,
         "1:1 the file is UTF-16: save it as UTF-8"},
        {"UTF-16 without a mark", "a\0:\0", 4,
         "1:2 a NUL octet (is the file UTF-16? Save it as UTF-8)"},
        {"Latin 1", "a: 1\nb: M\374ller\n", 0,
         "2:5 the octet 0xFC is not UTF-8"},
        {"cut short", "a: \342\202", 0, "1:4 the octet 0xE2 is not UTF-8"},
        {"over U+10FFFF", "a: \364\220\200\200", 0,
         "1:4 the octet 0xF4 is not UTF-8"},
        {"a mark in the middle", "a: 1\nb: \357\273\277x\n", 0,
         "2:4 a control character, U+FEFF"},
        {"CR alone", "a: 1\rb: 2\n", 0,
         "1:5 U+000D ends a line for YAML, though not for editors: leave it "
         "out"},
        {"next line", "a: 1\nb: x\302\205y\n", 0,
         "2:5 U+0085 ends a line for YAML, though not for editors: leave it "
         "out"},
        {"line separator", "a: x\342\200\250y\n", 0,
         "1:5 U+2028 ends a line for YAML, though not for editors: leave it "
         "out"},
        {"number tag", "a: 1\nb: [!!int \"5\"]\n", 0,
         "2:5 tags are not used here: leave out \"tag:yaml.org,2002:int\""},
        {"binary tag", "a: !!binary |\n  aGVsbG8=\n", 0,
         "1:4 tags are not used here: leave out "
         "\"tag:yaml.org,2002:binary\""},
        {"tag of a map", "a: !x {b: c}\n", 0,
         "1:4 tags are not used here: leave out \"!x\""},
        {"tag of a list", "a:\n- !y [b]\n", 0,
         "2:3 tags are not used here: leave out \"!y\""},
        {"undefined tag handle", "a: !h!x b\n", 0,
         "1:4 found undefined tag handle, while parsing a node"},
        {"unknown directive", "%YAML 2.0\n---\na: 1\n", 0,
         "1:1 found incompatible YAML document"},
        {"directive twice", "%YAML 1.1\n%YAML 1.1\n---\na: 1\n", 0,
         "2:1 found duplicate %YAML directive"},
        {"twice among many",
         "{a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1,\n"
         " i: 1, 'a': 2}\n",
         0, "2:8 \"a\" is given twice, first in line 1"},
        {"merge key of an alias", "a: &x {b: 1}\nc:\n  <<: *x\n", 0,
         "3:3 merge keys (<<) are not supported: write the keys out"},
        {"anchor on an alias", "a: &x [&x *x]\n", 0,
         "1:11 did not find expected ',' or ']', while parsing a flow "
         "sequence"},
        {"alias around", "a: &x {b: &y [{c: *x}]}\n", 0,
         "1:19 the alias \"x\" would hold itself"},
        {"alias as a key", "a: &x b\n*x : c\n", 0, ""},
        {"alias of a list as a key", "a: &x [b]\n*x : c\n", 0,
         "1:4 a key must be a word, not a list or a map"},
        {"a map as a key", "a: 1\n? {b: c}\n: d\n", 0,
         "2:3 a key must be a word, not a list or a map"},
        {"tab in a line", "a: 1\nb:\n  c: 1\n\td: 2\n", 0,
         "4:1 a tab: YAML indents with spaces"},
        {"tab between", "a:\t1\n", 0, ""},
        {"document end and more", "a: 1\n...\nb: 2\n", 0,
         "3:1 did not find expected <document start>"},
        {"stray bracket", "a: 1\nb: ]\n", 0,
         "2:4 did not find expected node content, while parsing a block node"},
        {"open quote", "a: 1\nb: 'x\n", 0,
         "3:1 found unexpected end of stream, while scanning a quoted scalar "
         "that begins in line 2"},
        {"bad escape", "a: \"\\q\"\n", 0,
         "1:5 found unknown escape character, while parsing a quoted scalar"},
        {"escaped surrogate", "a: \"\\ud800\"\n", 0,
         "1:7 found invalid Unicode character escape code, while parsing a "
         "quoted scalar"},
    };

    unsigned bad = 0;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        size_t len = rows[i].len > 0 ? rows[i].len : strlen(rows[i].yaml);
        char got[DIAG_TEXT + 30] = "";
        struct node *root;

        memset(&d, 0, sizeof d);
        tree_read(arena, rows[i].yaml, len, "f", &d, &root);
        if (d.n > 0)
            snprintf(got, sizeof got, "%u:%u %s", d.item[0].at.line,
                     d.item[0].at.col, d.item[0].text);
        if (d.n_errors > 1 || strcmp(got, rows[i].want) != 0) {
            print_error("%s: %s\nwant: %s\n", rows[i].name, got, rows[i].want);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
    (void)state;
}

/* Nine levels of nine: 400 million values in 300 octets. */
static void
alias_bombs_are_refused(void **state)
{
    char yaml[2000] = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";

    (void)state;
    for (int i = 1; i < 9; i++)
        sprintf(yaml + strlen(yaml),
                "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i,
                i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                i - 1);
    assert_null(read_tree(yaml, TREE_EINVAL));
    assert_int_equal(d.n, 1);
    assert_int_equal(d.item[0].at.line, 7);
    assert_non_null(strstr(d.item[0].text, "more than 4000000 values"));
}

static void
depth(void **state)
{
    char yaml[2 * TREE_DEPTH_MAX + 8];

    (void)state;
    for (int n = TREE_DEPTH_MAX - 1; n <= TREE_DEPTH_MAX + 1; n++) {
        memset(yaml, '[', (size_t)n);
        memset(yaml + n, ']', (size_t)n);
        yaml[2 * n] = '\0';
        read_tree(yaml, n <= TREE_DEPTH_MAX ? TREE_OK : TREE_EINVAL);
    }
    assert_int_equal(d.n_errors, 1);
    assert_int_equal(d.item[0].at.col, TREE_DEPTH_MAX + 1);
}

static void
too_large(void **state)
{
    size_t len = (size_t)TREE_TEXT_MAX + 1;
    char *text = malloc(len);
    struct node *root;

    (void)state;
    memset(text, ' ', len);
    assert_int_equal(tree_read(arena, text, len, "f", &d, &root), TREE_EINVAL);
    assert_int_equal(d.item[0].at.line, 0);
    free(text);
}

static void
nothing_and_yes(void **state)
{
    struct node *n =
        read_tree("[~, null, , \"\", yes, Off, 'yes', x, []]", TREE_EINVAL);
    bool b = false;

    (void)state;
    assert_null(n); /* ", ," is no YAML */
    n = read_tree("[~, null, \"\", yes, Off, 'yes', x, []]", TREE_OK);
    assert_true(node_is_null(n->item[0]) && node_is_null(n->item[1]));
    assert_false(node_is_null(n->item[2]));
    assert_true(node_bool(n->item[3], &b) && b);
    assert_true(node_bool(n->item[4], &b) && !b);
    for (size_t i = 5; i < 8; i++)
        assert_false(node_bool(n->item[i], &b) || node_is_null(n->item[i]));
}

static void
values_are_shown_safely(void **state)
{
    char text[200];

    (void)state;
    assert_string_equal(node_show_text(SLICE_LIT("a\nb\177")).text, "\"a?b?\"");
    assert_string_equal(node_show_text(SLICE_LIT("")).text, "\"\"");
    /* Cut before the character that would not fit whole. */
    memset(text, 'x', 59);
    memcpy(text + 59, "\303\244more", 7);
    assert_int_equal(strlen(node_show_text(slice_of(text)).text), 59 + 5);
}

static void
utf8(void **state)
{
    static const struct {
        const char *in;
        size_t length;
        uint32_t code;
        bool text;
    } rows[] = {
        {"a", 1, 'a', true},
        {"\n", 1, '\n', true},
        {"\001", 1, 1, false},
        {"\177", 1, 0x7F, false},
        {"\302\205", 2, 0x85, true},
        {"\302\200", 2, 0x80, false},
        {"\303\244", 2, 0xE4, true},
        {"\342\202\254", 3, 0x20AC, true},
        {"\357\273\277", 3, 0xFEFF, false},
        {"\357\277\276", 3, 0xFFFE, false},
        {"\360\237\230\200", 4, 0x1F600, true},
        {"\364\217\277\277", 4, 0x10FFFF, true},
        {"\364\220\200\200", 0, 0, false}, /* over the top */
        {"\300\200", 0, 0, false},         /* overlong */
        {"\340\200\200", 0, 0, false},     /* overlong */
        {"\360\200\200\200", 0, 0, false}, /* overlong */
        {"\355\240\200", 0, 0, false},     /* surrogate */
        {"\200", 0, 0, false},
        {"\303", 0, 0, false},
        {"\303a", 0, 0, false},
        {"\342\202", 0, 0, false},
        {"\377", 0, 0, false},
        {"", 0, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct slice s = slice_of(rows[i].in);

        assert_int_equal(utf8_length(s), rows[i].length);
        if (rows[i].length == 0)
            continue;
        assert_int_equal(utf8_code(s), rows[i].code);
        assert_int_equal(utf8_is_text(s), rows[i].text);
    }
}

static void
numbers_with_units(void **state)
{
    typedef enum scalar_result parser(struct slice s, uint64_t * ret);
    static const struct {
        parser *parse;
        const char *in;
        enum scalar_result want;
        uint64_t value;
    } rows[] = {
        {scalar_number, "0", SCALAR_OK, 0},
        {scalar_number, "18446744073709551615", SCALAR_OK, UINT64_MAX},
        {scalar_number, "18446744073709551616", SCALAR_ERANGE, 0},
        {scalar_number, "", SCALAR_ESYNTAX, 0},
        {scalar_number, "-1", SCALAR_ESYNTAX, 0},
        {scalar_number, "1 ", SCALAR_ESYNTAX, 0},
        {scalar_number, "0x10", SCALAR_ESYNTAX, 0},
        {scalar_number, "1_000", SCALAR_ESYNTAX, 0},
        {scalar_duration, "500ms", SCALAR_OK, 500},
        {scalar_duration, "90 S", SCALAR_OK, 90000},
        {scalar_duration, "10m", SCALAR_OK, 600000},
        {scalar_duration, "24h", SCALAR_OK, 86400000},
        {scalar_duration, "7d", SCALAR_OK, 604800000},
        {scalar_duration, "0", SCALAR_OK, 0},
        {scalar_duration, "5", SCALAR_EUNIT, 0},
        {scalar_duration, "5w", SCALAR_EUNIT, 0},
        {scalar_duration, "1h30m", SCALAR_EUNIT, 0},
        {scalar_duration, "m", SCALAR_ESYNTAX, 0},
        {scalar_duration, "213503982335d", SCALAR_ERANGE, 0},
        {scalar_size, "1000", SCALAR_OK, 1000},
        {scalar_size, "10KB", SCALAR_OK, 10000},
        {scalar_size, "10 KiB", SCALAR_OK, 10240},
        {scalar_size, "25mb", SCALAR_OK, 25000000},
        {scalar_size, "1GiB", SCALAR_OK, 1073741824},
        {scalar_size, "2TB", SCALAR_OK, 2000000000000},
        {scalar_size, "7B", SCALAR_OK, 7},
        {scalar_size, "5M", SCALAR_EUNIT, 0},
        {scalar_size, "16777216TiB", SCALAR_ERANGE, 0},
        {scalar_percent, "80%", SCALAR_OK, 80},
        {scalar_percent, "80", SCALAR_OK, 80},
        {scalar_percent, "%", SCALAR_ESYNTAX, 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        uint64_t value = 4711;

        print_message("  %s\n", rows[i].in);
        assert_int_equal(rows[i].parse(slice_of(rows[i].in), &value),
                         rows[i].want);
        assert_int_equal(value,
                         rows[i].want == SCALAR_OK ? rows[i].value : 4711);
    }
}

static void
numbers_shown(void **state)
{
    char text[SCALAR_TEXT];

    (void)state;
    assert_string_equal(scalar_show_duration(0, text), "0s");
    assert_string_equal(scalar_show_duration(1, text), "1ms");
    assert_string_equal(scalar_show_duration(90000, text), "90s");
    assert_string_equal(scalar_show_duration(86400000, text), "1d");
    assert_string_equal(scalar_show_size(300000000, text), "300MB");
    assert_string_equal(scalar_show_size(1536, text), "1536B");
    assert_string_equal(scalar_show_size(0, text), "0B");
    assert_string_equal(scalar_show_size(UINT64_MAX, text),
                        "18446744073709551615B");
}

static void
suggestions(void **state)
{
    static const struct {
        const char *word, *want;
    } rows[] = {
        {"sendr", "sender"},
        {"sednr", "sender"},
        {"SENDER", "sender"},
        {"size_", "size"},
        {"sise", "size"},
        {"recipeint", "recipient"},
        {"a", ""},
        {"", ""},
        {"quota", ""},
        {"xxxxxxxxxx", ""},
    };
    static const char *const all[] = {"size", "sender", "recipient", "any"};

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct suggest s = suggest_start(slice_of(rows[i].word));

        print_message("  %s\n", rows[i].word);
        for (size_t k = 0; k < LENGTH(all); k++)
            suggest_try(&s, slice_of(all[k]));
        assert_true(slice_eq(s.best, slice_of(rows[i].want)));
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_node_knows_its_place),
        TEST(goes_on_where_it_can),
        TEST(refused_where_it_stands),
        TEST(alias_bombs_are_refused),
        TEST(depth),
        TEST(too_large),
        TEST(nothing_and_yes),
        TEST(values_are_shown_safely),
        TEST(utf8),
        TEST(numbers_with_units),
        TEST(numbers_shown),
        TEST(suggestions),
    };

    return cmocka_run_group_tests_name("policy/tree", tests, NULL, NULL);
}
