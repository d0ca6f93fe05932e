/* policy/tree.c - see tree.h: libyaml's events, put together.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The only user of yaml.h.
 */
#include "policy/tree.h"

#include <yaml.h>

#include "policy/arena.h"
#include "policy/table.h"
#include "policy/utf8.h"

/* A list or map that is not complete yet. */
struct frame {
    struct node *node;
    struct node *key; /* a map's, whose value comes next */
    struct piece *first, *last;
};

struct piece {
    struct piece *next;
    struct node *key, *value;
};

struct builder {
    struct arena *arena;
    struct diag *diag;
    const char *file;
    struct slice text;
    yaml_parser_t parser;
    struct frame frame[TREE_DEPTH_MAX];
    unsigned depth;        /* frames used */
    struct table *anchors; /* name -> node */
    uint32_t weight;       /* nodes so far, aliases counted */
    unsigned documents;
    struct node *root;
    bool good;  /* no error so far */
    bool nomem; /* stop */
};

static struct loc
loc_of(const struct builder *b, const yaml_mark_t *mark)
{
    return (struct loc){b->file, (unsigned)mark->line + 1,
                        (unsigned)mark->column + 1};
}

static bool
out_of_memory(struct builder *b)
{
    b->nomem = true;
    return false;
}

/* ---- nodes; false = stop ---- */

static struct node *
node_new(struct builder *b, enum node_kind kind, const yaml_event_t *e)
{
    struct node *n = arena_alloc(b->arena, 1, sizeof *n);

    if (n == NULL) {
        out_of_memory(b);
        return NULL;
    }
    n->kind = kind;
    n->at = loc_of(b, &e->start_mark);
    return n;
}

static bool
weigh(struct builder *b, struct loc at, uint32_t weight)
{
    if (weight <= TREE_NODES_MAX - b->weight) {
        b->weight += weight;
        return true;
    }
    return b->good = diag_error(b->diag, at,
                                "the file has more than %d values, counting "
                                "what aliases stand for",
                                TREE_NODES_MAX);
}

static bool
check_key(struct builder *b, const struct node *n)
{
    if (n->kind != NODE_SCALAR)
        return b->good = diag_error(b->diag, n->at,
                                    "a key must be a word, "
                                    "not a list or a map");
    if (n->quoted || n->text.len > 0) {
        if (!n->quoted && slice_eq(n->text, SLICE_LIT("<<")))
            b->good = diag_error(b->diag, n->at,
                                 "merge keys (<<) are not supported: write "
                                 "the keys out");
        return true;
    }
    b->good = diag_error(b->diag, n->at, "a key is missing before the colon");
    return true;
}

/* Puts a complete node where it belongs. */
static bool
place(struct builder *b, struct node *n)
{
    struct frame *f = b->depth > 0 ? &b->frame[b->depth - 1] : NULL;
    struct piece *piece;

    if (f == NULL) {
        b->root = n;
        return true;
    }
    if (f->node->kind == NODE_MAP && f->key == NULL) {
        f->key = n;
        return check_key(b, n);
    }
    piece = arena_alloc(b->arena, 1, sizeof *piece);
    if (piece == NULL)
        return out_of_memory(b);
    piece->key = f->key;
    piece->value = n;
    if (f->last != NULL)
        f->last->next = piece;
    else
        f->first = piece;
    f->last = piece;
    f->node->n++;
    f->key = NULL;
    return true;
}

static bool
add_anchor(struct builder *b, const yaml_char_t *name, struct node *n)
{
    char *copy;

    if (name == NULL)
        return true;
    copy = arena_copy(b->arena, slice_of((const char *)name));
    if (copy == NULL || !table_put(b->anchors, slice_of(copy), n))
        return out_of_memory(b);
    return true;
}

static void
check_tag(struct builder *b, const yaml_char_t *tag, struct loc at)
{
    if (tag != NULL && strcmp((const char *)tag, "!") != 0)
        b->good =
            diag_error(b->diag, at, "tags are not used here: leave out %s",
                       node_show_text(slice_of((const char *)tag)).text);
}

/* ---- events; false = stop ---- */

static bool
on_scalar(struct builder *b, const yaml_event_t *e)
{
    struct slice text = {(const char *)e->data.scalar.value,
                         e->data.scalar.length};
    struct node *n = node_new(b, NODE_SCALAR, e);

    if (n == NULL)
        return false;
    check_tag(b, e->data.scalar.tag, n->at);
    if (memchr(text.at, '\0', text.len) != NULL) {
        b->good = diag_error(b->diag, n->at, "a text has a NUL (\\0) inside");
        text.len = strlen(text.at);
    }
    n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    n->text = (struct slice){arena_copy(b->arena, text), text.len};
    if (n->text.at == NULL)
        return out_of_memory(b);
    n->weight = 1;
    return add_anchor(b, e->data.scalar.anchor, n) && weigh(b, n->at, 1) &&
           place(b, n);
}

static bool
on_start(struct builder *b, enum node_kind kind, const yaml_event_t *e,
         const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct node *n = node_new(b, kind, e);

    if (n == NULL)
        return false;
    check_tag(b, tag, n->at);
    if (b->depth == TREE_DEPTH_MAX)
        return b->good = diag_error(b->diag, n->at,
                                    "lists and maps are nested deeper than %d "
                                    "levels",
                                    TREE_DEPTH_MAX);
    if (!add_anchor(b, anchor, n) || !weigh(b, n->at, 1))
        return false;
    n->weight = b->weight; /* until it is complete, what came before it */
    b->frame[b->depth++] = (struct frame){.node = n};
    return true;
}

/* Is this one of the lists and maps that are not complete yet? */
static bool
is_open(const struct builder *b, const struct node *n)
{
    for (unsigned i = 0; i < b->depth; i++)
        if (b->frame[i].node == n)
            return true;
    return false;
}

static bool
check_duplicates(struct builder *b, const struct node *map)
{
    struct table *seen = NULL;

    if (map->n > 8 && (seen = table_new(b->arena)) == NULL)
        return out_of_memory(b);
    for (size_t i = 0; i < map->n; i++) {
        struct node *key = map->key[i];
        void *old = NULL;

        if (seen == NULL) {
            for (size_t j = 0; j < i && old == NULL; j++)
                if (slice_eq(map->key[j]->text, key->text))
                    old = map->key[j];
        } else if (!table_add(seen, key->text, key, &old)) {
            return out_of_memory(b);
        }
        if (old != NULL)
            b->good = diag_error(
                b->diag, key->at, "%s is given twice, first in line %u",
                node_show_text(key->text).text, ((struct node *)old)->at.line);
    }
    return true;
}

static bool
on_end(struct builder *b)
{
    struct frame *f = &b->frame[--b->depth];
    struct node *n = f->node;
    size_t i = 0;

    n->item = arena_alloc(b->arena, n->n, sizeof(struct node *));
    n->key = arena_alloc(b->arena, n->kind == NODE_MAP ? n->n : 0,
                         sizeof(struct node *));
    if (n->item == NULL || n->key == NULL)
        return out_of_memory(b);
    for (struct piece *p = f->first; p != NULL; p = p->next, i++) {
        n->item[i] = p->value;
        if (n->kind == NODE_MAP)
            n->key[i] = p->key;
    }
    n->weight = b->weight - n->weight + 1;
    if (n->kind == NODE_MAP && !check_duplicates(b, n))
        return false;
    return place(b, n);
}

static bool
on_alias(struct builder *b, const yaml_event_t *e)
{
    struct loc at = loc_of(b, &e->start_mark);
    const char *name = (const char *)e->data.alias.anchor;
    struct node *n = table_get(b->anchors, slice_of(name));

    if (n == NULL)
        return b->good = diag_error(b->diag, at,
                                    "there is no anchor %s before this alias",
                                    node_show_text(slice_of(name)).text);
    if (is_open(b, n))
        return b->good =
                   diag_error(b->diag, at, "the alias %s would hold itself",
                              node_show_text(slice_of(name)).text);
    return weigh(b, at, n->weight) && place(b, n);
}

static bool
on_document(struct builder *b, const yaml_event_t *e)
{
    if (b->documents++ == 0)
        return true;
    return b->good = diag_error(b->diag, loc_of(b, &e->start_mark),
                                "a second document begins here: one file "
                                "holds one");
}

static bool
on_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(b, NODE_LIST, e, e->data.sequence_start.anchor,
                        e->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(b, NODE_MAP, e, e->data.mapping_start.anchor,
                        e->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(b);
    case YAML_ALIAS_EVENT:
        return on_alias(b, e);
    case YAML_DOCUMENT_START_EVENT:
        return on_document(b, e);
    default:
        return true;
    }
}

/* ---- what is wrong with the bytes ---- */

/* The octet at a line and column, which count characters from 0. */
static char
char_at(struct slice text, const yaml_mark_t *mark)
{
    size_t i = 0;

    for (size_t line = 0; line < mark->line && i < text.len; i++)
        line += text.at[i] == '\n';
    for (size_t col = 0; col < mark->column && i < text.len; col++)
        i += utf8_length(slice_from(text, i));
    return i < text.len ? text.at[i] : '\0';
}

static void
syntax_error(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    struct loc at = loc_of(b, &p->problem_mark);

    b->good = false;
    if (p->error == YAML_MEMORY_ERROR) {
        b->nomem = true;
    } else if (char_at(b->text, &p->problem_mark) == '\t') {
        diag_error(b->diag, at, "a tab: YAML indents with spaces");
    } else if (p->context != NULL && p->context_mark.line > 0 &&
               p->context_mark.line != p->problem_mark.line) {
        diag_error(b->diag, at, "%s, %s that begins in line %u", p->problem,
                   p->context, (unsigned)p->context_mark.line + 1);
    } else {
        diag_error(b->diag, at, "%s%s%s",
                   p->problem != NULL ? p->problem : "not YAML",
                   p->context != NULL ? ", " : "",
                   p->context != NULL ? p->context : "");
    }
}

/* Lines would be counted in two ways. */
static bool
is_foreign_break(struct slice s)
{
    uint32_t code = utf8_code(s);

    if (code == '\r')
        return s.len < 2 || s.at[1] != '\n';
    return code == 0x85 || code == 0x2028 || code == 0x2029;
}

/* UTF-8 without controls: libyaml would find the same, but not say where. */
static bool
check_bytes(struct builder *b)
{
    struct loc at = {b->file, 1, 1};

    if (b->text.len > TREE_TEXT_MAX)
        return diag_error(b->diag, (struct loc){b->file, 0, 0},
                          "the file is larger than %d MiB",
                          TREE_TEXT_MAX / 1024 / 1024);
    for (size_t i = 0; i < b->text.len;) {
        unsigned char c = (unsigned char)b->text.at[i];
        size_t n = utf8_length(slice_from(b->text, i));

        if (i == 0 && (slice_starts(b->text, "\xFF\xFE") ||
                       slice_starts(b->text, "\xFE\xFF")))
            return diag_error(b->diag, at,
                              "the file is UTF-16: save it as "
                              "UTF-8");
        if (n == 0)
            return diag_error(b->diag, at, "the octet 0x%02X is not UTF-8", c);
        if (c == '\0')
            return diag_error(b->diag, at,
                              "a NUL octet (is the file UTF-16? "
                              "Save it as UTF-8)");
        if (is_foreign_break(slice_from(b->text, i)))
            return diag_error(b->diag, at,
                              "U+%04X ends a line for YAML, though not for "
                              "editors: leave it out",
                              (unsigned)utf8_code(slice_from(b->text, i)));
        if (!utf8_is_text(slice_from(b->text, i)))
            return diag_error(b->diag, at, "a control character, U+%04X",
                              (unsigned)utf8_code(slice_from(b->text, i)));
        at.col++;
        if (c == '\n') {
            at.line++;
            at.col = 1;
        }
        i += n;
    }
    return true;
}

/* ---- */

/* Reads all events; false = no complete tree. */
static bool
build(struct builder *b)
{
    bool go = true, end = false;

    yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b->parser, (const unsigned char *)b->text.at,
                                 b->text.len);
    while (go && !end) {
        yaml_event_t e;

        if (!yaml_parser_parse(&b->parser, &e)) {
            syntax_error(b);
            return false;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        go = on_event(b, &e);
        yaml_event_delete(&e);
    }
    return go;
}

enum tree_result
tree_read(struct arena *a, const char *text, size_t len, const char *file,
          struct diag *d, struct node **ret)
{
    struct builder b = {.arena = a, .diag = d, .file = file, .good = true};
    bool complete;

    *ret = NULL;
    b.text = (struct slice){text, len};
    if (slice_starts(b.text, "\xEF\xBB\xBF")) /* a byte order mark */
        b.text = slice_from(b.text, 3);
    if (b.text.len == 0)
        b.text.at = ""; /* libyaml asserts a text, also an empty one */
    if (!check_bytes(&b))
        return TREE_EINVAL;
    b.anchors = table_new(a);
    if (b.anchors == NULL || !yaml_parser_initialize(&b.parser))
        return TREE_ENOMEM;
    complete = build(&b);
    yaml_parser_delete(&b.parser);
    if (b.nomem)
        return TREE_ENOMEM;
    if (complete && b.root == NULL)
        diag_error(d, (struct loc){file, 1, 1}, "the file is empty");
    if (!complete || b.root == NULL)
        return TREE_EINVAL;
    *ret = b.root;
    return b.good ? TREE_OK : TREE_EINVAL;
}
