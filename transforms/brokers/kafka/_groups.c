/* Groups messages by partition and epoch, and writes each group into one block of memory, column by column. */
#include "_native.h"

#include <stdlib.h>
#include <string.h>

#define PARTITION_EOF (-191)
#define NO_HEADERS (-156)
#define LARGEST INT32_MAX /* bytes or items of a column: Arrow's offsets have 32 bits */
#define ALIGNED(n) (((n) + 63) & ~(size_t)63)

/* Strict UTF-8, as Python decodes it: no surrogates, nothing longer than it needs to be. */
static int is_text(const char *text, size_t size) {
    const uint8_t *at = (const uint8_t *)text, *stop = at + size;
    while (at < stop) {
        uint8_t lead = *at++;
        if (lead < 0x80) continue;
        int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        if (lead < 0xC2 || lead > 0xF4 || stop - at < more) return 0;
        if ((lead == 0xE0 && *at < 0xA0) || (lead == 0xED && *at > 0x9F)) return 0;
        if ((lead == 0xF0 && *at < 0x90) || (lead == 0xF4 && *at > 0x8F)) return 0;
        for (; more; more--)
            if ((*at++ & 0xC0) != 0x80) return 0;
    }
    return 1;
}

static void count_string(strings_t *to, const void *bytes, size_t size) {
    to->count++;
    if (bytes) to->size += size;
    else to->nulls++;
}

static void write_string(strings_t *to, const void *bytes, size_t size) {
    if (bytes) {
        if (size) memcpy(to->bytes + to->size, bytes, size);
        to->size += size;
        if (to->valid) to->valid[to->count >> 3] |= (uint8_t)(1 << (to->count & 7));
    }
    to->ends[++to->count] = (int32_t)to->size;
}

/* Counts one message, or 0 where its group has no room for it. */
static int count_message(group_t *g, const message_t *m, uint8_t *flag) {
    strings_t key = g->key, value = g->value, name = g->name, content = g->content;
    void *headers;
    const char *text;
    const void *bytes;
    size_t size;
    int error = kafka.headers_of(m, &headers);
    count_string(&key, m->key, m->key_size);
    count_string(&value, m->value, m->value_size);
    *flag = error && error != NO_HEADERS ? UNREADABLE : 0;
    for (size_t i = 0; !error && !kafka.header_at(headers, i, &text, &bytes, &size); i++) {
        size_t length = strlen(text);
        if (!is_text(text, length)) {
            *flag = UNREADABLE;
            name = g->name, content = g->content;
            break;
        }
        count_string(&name, text, length);
        count_string(&content, bytes, size);
    }
    if (key.size > LARGEST || value.size > LARGEST || name.size > LARGEST || content.size > LARGEST ||
        name.count > LARGEST)
        return 0;
    g->key = key, g->value = value, g->name = name, g->content = content;
    g->unreadable += *flag == UNREADABLE;
    if (!g->rows++) g->first = m->offset;
    g->last = m->offset;
    return 1;
}

static void write_message(group_t *g, const message_t *m, uint8_t flag) {
    void *headers;
    const char *text;
    const void *bytes;
    size_t size, row = g->filled++;
    int type;
    g->offsets[row] = m->offset;
    g->times[row] = kafka.time_of(m, &type);
    write_string(&g->key, m->key, m->key_size);
    write_string(&g->value, m->value, m->value_size);
    if (flag != UNREADABLE) {
        g->readable[row >> 3] |= (uint8_t)(1 << (row & 7));
        if (!kafka.headers_of(m, &headers))
            for (size_t i = 0; !kafka.header_at(headers, i, &text, &bytes, &size); i++) {
                write_string(&g->name, text, strlen(text));
                write_string(&g->content, bytes, size);
            }
    }
    g->header_ends[row + 1] = (int32_t)g->name.count;
}

/* The slot of a message's partition: that of its newest group, or a free one. */
static int32_t *slot_of(batch_t *b, const message_t *m) {
    size_t at = ((size_t)m->topic >> 4) * 31 + (size_t)(uint32_t)m->partition;
    for (at *= 0x9E3779B97F4A7C15u, at >>= 20;; at++) {
        int32_t *slot = &b->slots[at & b->slot_mask];
        if (*slot < 0) return slot;
        if (b->groups[*slot].topic == m->topic && b->groups[*slot].partition == m->partition) return slot;
    }
}

static group_t *new_group(batch_t *b, const message_t *m, int32_t *slot, int32_t epoch) {
    group_t *g = &b->groups[b->group_count];
    g->topic = m->topic, g->partition = m->partition, g->epoch = epoch;
    b->items[b->item_count++] = *slot = b->group_count++;
    return g;
}

/* Gives each message its group. Another epoch begins a new one, and so does an error: who reads this must know
 * what came before it. At a partition's end the position is known anyway. */
static void sort_messages(batch_t *b) {
    for (Py_ssize_t i = 0; i < b->count; i++) {
        message_t *m = b->messages[i];
        int32_t *slot = slot_of(b, m);
        if (m->err) {
            b->group_at[i] = ERROR;
            b->items[b->item_count++] = -1 - i;
            if (m->err != PARTITION_EOF && *slot >= 0) b->groups[*slot].closed = 1;
            continue;
        }
        int32_t epoch = kafka.epoch_of(m);
        group_t *g = *slot >= 0 ? &b->groups[*slot] : NULL;
        if (!g || g->closed || g->epoch != epoch) g = new_group(b, m, slot, epoch);
        if (!count_message(g, m, &b->flags[i]) &&
            !count_message(g = new_group(b, m, slot, epoch), m, &b->flags[i])) {
            b->too_large = 1;
            return;
        }
        b->group_at[i] = *slot;
    }
}

void group_layout(const group_t *g, size_t starts[COLUMNS + 1]) {
    size_t rows = g->rows, headers = g->name.count, sizes[COLUMNS] = {
        8 * rows, 8 * rows,
        rows / 8 + 1, 4 * (rows + 1), g->key.size,
        rows / 8 + 1, 4 * (rows + 1), g->value.size,
        rows / 8 + 1, 4 * (rows + 1),
        4 * (headers + 1), g->name.size,
        headers / 8 + 1, 4 * (headers + 1), g->content.size,
    };
    starts[0] = 0;
    for (int i = 0; i < COLUMNS; i++) starts[i + 1] = starts[i] + ALIGNED(sizes[i]);
}

static void place(strings_t *to, char *valid, char *ends, char *bytes) {
    *to = (strings_t){.nulls = to->nulls, .valid = (uint8_t *)valid, .ends = (int32_t *)ends, .bytes = bytes};
    to->ends[0] = 0;
}

static int allocate(group_t *g) {
    size_t at[COLUMNS + 1];
    group_layout(g, at);
    char *p = g->block = malloc(g->size = at[COLUMNS]);
    if (!p) return 0;
    memset(p + at[2], 0, at[3] - at[2]);
    memset(p + at[5], 0, at[6] - at[5]);
    memset(p + at[8], 0, at[9] - at[8]);
    memset(p + at[12], 0, at[13] - at[12]);
    g->offsets = (int64_t *)p, g->times = (int64_t *)(p + at[1]);
    place(&g->key, p + at[2], p + at[3], p + at[4]);
    place(&g->value, p + at[5], p + at[6], p + at[7]);
    g->readable = (uint8_t *)(p + at[8]), g->header_ends = (int32_t *)(p + at[9]);
    g->header_ends[0] = 0;
    place(&g->name, NULL, p + at[10], p + at[11]);
    place(&g->content, p + at[12], p + at[13], p + at[14]);
    return 1;
}

/* Writes all groups and gives the messages back to librdkafka. Those with errors stay, and the first one of each
 * group: it keeps the topic, of which the name is still needed. */
static int write_groups(batch_t *b) {
    for (int32_t i = 0; i < b->group_count; i++)
        if (!allocate(&b->groups[i])) return 0;
    for (Py_ssize_t i = 0; i < b->count; i++) {
        if (b->group_at[i] == ERROR) continue;
        group_t *g = &b->groups[b->group_at[i]];
        write_message(g, b->messages[i], b->flags[i]);
        if (g->filled == 1) continue;
        kafka.destroy(b->messages[i]);
        b->messages[i] = NULL;
    }
    return 1;
}

static int prepare(batch_t *b) {
    size_t count = (size_t)b->count, slots = 16;
    while (slots < 2 * count) slots *= 2;
    b->slot_mask = slots - 1;
    b->groups = calloc(count + 1, sizeof *b->groups); /* a message too large for one begins two */
    b->group_at = malloc(count * sizeof *b->group_at);
    b->flags = calloc(count, 1);
    b->items = malloc((count + 1) * sizeof *b->items);
    b->slots = malloc(slots * sizeof *b->slots);
    if (!b->groups || !b->group_at || !b->flags || !b->items || !b->slots) return 0;
    memset(b->slots, 0xFF, slots * sizeof *b->slots);
    return 1;
}

int batch_convert(batch_t *b) {
    if (!prepare(b)) return 0;
    sort_messages(b);
    return !b->too_large && write_groups(b);
}

void batch_discard(batch_t *b) {
    for (Py_ssize_t i = 0; i < b->count; i++)
        if (b->messages[i]) kafka.destroy(b->messages[i]);
    for (int32_t i = 0; i < b->group_count; i++) free(b->groups[i].block);
    free(b->messages), free(b->groups), free(b->group_at), free(b->flags), free(b->items), free(b->slots);
}
