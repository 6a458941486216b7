/* What the two files of the extension share: librdkafka's public structure and functions, and groups of messages. */
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *value;
    size_t value_size;
    void *key;
    size_t key_size;
    int64_t offset;
    void *private;
} message_t;

/* Functions of the client's module and of the librdkafka that it uses, found when it is attached. */
typedef struct {
    void *(*queue_of)(void *client);
    void (*leave_queue)(void *queue);
    ssize_t (*consume_batch)(void *queue, int milliseconds, message_t **messages, size_t most);
    void (*destroy)(message_t *);
    int (*headers_of)(const message_t *, void **headers);
    int (*header_at)(const void *headers, size_t at, const char **name, const void **value, size_t *size);
    int64_t (*time_of)(const message_t *, int *type);
    int32_t (*epoch_of)(const message_t *);
    const char *(*topic_name)(const void *topic);
    int (*last_error)(void);
    const char *(*error_text)(int error);
    int (*enter)(PyObject *consumer);
    void (*leave)(PyObject *consumer);
    void (*begin)(PyObject *consumer, void *state);
    int (*end)(PyObject *consumer, void *state);
    PyObject *(*message_object)(const PyObject *consumer, const message_t *);
    PyObject *(*error_object)(int error, const char *text);
    PyObject **exception;
    PyTypeObject *consumer_type;
} kafka_t;

extern kafka_t kafka;

/* A column of byte strings: counted first, then written into memory of exactly that size. */
typedef struct {
    size_t count, size, nulls;
    uint8_t *valid; /* NULL where none can be null */
    int32_t *ends;
    char *bytes;
} strings_t;

/* A group: messages of one partition and one leader epoch that come in a row as far as that partition goes. */
typedef struct {
    void *topic;
    int32_t partition, epoch;
    int closed;
    size_t rows, filled, unreadable;
    int64_t first, last;
    strings_t key, value, name, content;
    int64_t *offsets, *times;
    uint8_t *readable;
    int32_t *header_ends;
    char *block;
    size_t size;
} group_t;

enum { COLUMNS = 15, ERROR = -1, UNREADABLE = 1 };

typedef struct {
    message_t **messages;
    Py_ssize_t count;
    group_t *groups;
    int32_t group_count;
    int32_t *group_at;   /* of each message: its group, or ERROR */
    uint8_t *flags;      /* of each message */
    Py_ssize_t *items;   /* what is returned, in order: a group, or -1 - the number of a message with an error */
    Py_ssize_t item_count;
    int32_t *slots;      /* a hash table from partition to its newest group */
    size_t slot_mask;
    int too_large;
} batch_t;

/* Groups the messages, and writes the groups. Gives messages back to librdkafka as it goes.
 * Returns 0 where memory is missing, or too_large is set. Needs no lock of the interpreter. */
int batch_convert(batch_t *);

/* Frees what the batch still has; its messages too. */
void batch_discard(batch_t *);

/* Where each column of a group lies in its block; starts[COLUMNS] is the block's size. */
void group_layout(const group_t *, size_t starts[COLUMNS + 1]);
