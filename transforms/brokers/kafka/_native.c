/* Reads messages of a confluent_kafka.Consumer into buffers of Arrow, with no Python object per message.
 *
 * The client stays: its handle, queue, callbacks and gate are used as its own consume() uses them, by functions
 * that its module exports. Structure and functions of librdkafka below are of its public header; what is private to
 * the client is its version's: transforms/brokers/kafka/native.py loads this for verified versions only.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define INTERFACE 1 /* compared by native.py, so that a build of other sources is not used */

kafka_t kafka;

/* What attach() looks up. */
static const struct {
    void *place;
    const char *name;
} SYMBOLS[] = {
    {&kafka.queue_of, "rd_kafka_queue_get_consumer"},
    {&kafka.leave_queue, "rd_kafka_queue_destroy"},
    {&kafka.consume_batch, "rd_kafka_consume_batch_queue"},
    {&kafka.destroy, "rd_kafka_message_destroy"},
    {&kafka.headers_of, "rd_kafka_message_headers"},
    {&kafka.header_at, "rd_kafka_header_get_all"},
    {&kafka.time_of, "rd_kafka_message_timestamp"},
    {&kafka.epoch_of, "rd_kafka_message_leader_epoch"},
    {&kafka.topic_name, "rd_kafka_topic_name"},
    {&kafka.last_error, "rd_kafka_last_error"},
    {&kafka.error_text, "rd_kafka_err2str"},
    {&kafka.enter, "Handle_serialize_enter"},
    {&kafka.leave, "Handle_serialize_exit"},
    {&kafka.begin, "CallState_begin"},
    {&kafka.end, "CallState_end"},
    {&kafka.message_object, "Message_new0"},
    {&kafka.error_object, "KafkaError_new_or_None"},
    {&kafka.exception, "KafkaException"},
    {&kafka.consumer_type, "ConsumerType"},
};

/* What a block of memory becomes in Python: an object with the buffer protocol, which frees it. */
typedef struct {
    PyObject_HEAD
    char *bytes;
    size_t size;
} block_t;

static int block_buffer(PyObject *self, Py_buffer *view, int flags) {
    block_t *block = (block_t *)self;
    return PyBuffer_FillInfo(view, self, block->bytes, (Py_ssize_t)block->size, 1, flags);
}

static void block_free(PyObject *self) {
    free(((block_t *)self)->bytes);
    PyObject_Free(self);
}

static PyBufferProcs block_procs = {block_buffer, NULL};
static PyTypeObject BlockType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "transforms.brokers.kafka._native.Block",
    .tp_basicsize = sizeof(block_t),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = block_free,
    .tp_as_buffer = &block_procs,
    .tp_doc = "Memory of columns.",
};

/* (topic, partition, epoch, first, last, rows, headers, nulls, block, starts of the columns in it) */
static PyObject *group_object(group_t *g) {
    size_t starts[COLUMNS + 1];
    group_layout(g, starts);
    block_t *block = PyObject_New(block_t, &BlockType);
    PyObject *places = block ? PyTuple_New(COLUMNS + 1) : NULL;
    if (block) block->bytes = g->block, block->size = g->size, g->block = NULL;
    for (int i = 0; places && i <= COLUMNS; i++) {
        PyObject *start = PyLong_FromSize_t(starts[i]);
        if (!start) Py_CLEAR(places);
        else PyTuple_SET_ITEM(places, i, start);
    }
    if (!places) {
        Py_XDECREF(block);
        return NULL;
    }
    return Py_BuildValue("siiLLnn(nnnn)NN", kafka.topic_name(g->topic), (int)g->partition, (int)g->epoch,
                         (long long)g->first, (long long)g->last, (Py_ssize_t)g->rows,
                         (Py_ssize_t)g->name.count, (Py_ssize_t)g->key.nulls, (Py_ssize_t)g->value.nulls,
                         (Py_ssize_t)g->unreadable, (Py_ssize_t)g->content.nulls, block, places);
}

static PyObject *item_object(batch_t *b, PyObject *consumer, Py_ssize_t item) {
    return item >= 0 ? group_object(&b->groups[item]) : kafka.message_object(consumer, b->messages[-1 - item]);
}

static PyObject *converted(batch_t *b, PyObject *consumer) {
    int done = 0;
    Py_BEGIN_ALLOW_THREADS
    done = batch_convert(b);
    Py_END_ALLOW_THREADS
    if (b->too_large) return PyErr_SetString(PyExc_OverflowError, "a message has more than 2 GB in one field"), NULL;
    if (!done) return PyErr_NoMemory();
    PyObject *result = PyList_New(b->item_count);
    for (Py_ssize_t i = 0; result && i < b->item_count; i++) {
        PyObject *object = item_object(b, consumer, b->items[i]);
        if (!object) Py_CLEAR(result);
        else PyList_SET_ITEM(result, i, object);
    }
    return result;
}

enum { RAISED = -2, FAILED = -1 };

/* One call of the client's consume(): its callbacks run in it, and may raise. */
static ssize_t take(PyObject *consumer, void *queue, double seconds, message_t **to, size_t most, int *error) {
    union {
        void *aligned;
        char room[256];
    } state;
    kafka.begin(consumer, &state);
    ssize_t count = kafka.consume_batch(queue, seconds < 0 ? -1 : (int)(seconds * 1000), to, most);
    if (count < 0) *error = kafka.last_error();
    if (kafka.end(consumer, &state)) return count;
    for (ssize_t i = 0; i < count; i++) kafka.destroy(to[i]);
    return RAISED;
}

static PyObject *consume_from(PyObject *consumer, void *queue, size_t most, double wait, double gather) {
    batch_t b = {.messages = calloc(most, sizeof(message_t *))};
    PyObject *result = NULL;
    int error = 0;
    if (!b.messages) return PyErr_NoMemory();
    ssize_t first = take(consumer, queue, wait, b.messages, 1, &error), more = 0;
    if (first == FAILED) {
        PyObject *reason = kafka.error_object(error, kafka.error_text(error));
        if (reason) PyErr_SetObject(*kafka.exception, reason);
        Py_XDECREF(reason);
    }
    b.count = first > 0 ? first : 0;
    /* librdkafka waits until it has the requested number, so ask only for a moment. The first message is already
     * read; the next call reports an error here. */
    if (first > 0 && most > 1) more = take(consumer, queue, gather, b.messages + 1, most - 1, &error);
    if (more > 0) b.count += more;
    if (first == 0) result = PyList_New(0);
    else if (first > 0 && more != RAISED) result = converted(&b, consumer);
    batch_discard(&b);
    return result;
}

PyDoc_STRVAR(CONSUME_DOC,
"consume(consumer, most, wait, gather)\n--\n\n"
"Wait up to ``wait`` seconds for a message, then ``gather`` seconds for others: ``most`` together.\n\n"
"Returns groups of messages and, as the client's own objects, those that are errors, in order.\n"
"Raises what the client's consume() raises, and OverflowError for a field of more than 2 GB.");

static PyObject *consume(PyObject *module, PyObject *arguments) {
    PyObject *consumer, *result = NULL;
    Py_ssize_t most;
    double wait, gather;
    if (!PyArg_ParseTuple(arguments, "Ondd", &consumer, &most, &wait, &gather)) return NULL;
    if (!kafka.consumer_type) return PyErr_SetString(PyExc_RuntimeError, "no client is attached"), NULL;
    if (!PyObject_TypeCheck(consumer, kafka.consumer_type)) return PyErr_SetString(PyExc_TypeError, "not a Consumer"), NULL;
    if (most < 1 || most > 1000000) return PyErr_SetString(PyExc_ValueError, "most is 1 to 1,000,000"), NULL;
    if (!kafka.enter(consumer)) return NULL;
    void *client = *(void **)((char *)consumer + sizeof(PyObject));
    void *queue = client ? kafka.queue_of(client) : NULL;
    if (queue) {
        result = consume_from(consumer, queue, (size_t)most, wait, gather);
        kafka.leave_queue(queue);
    } else
        PyErr_SetString(PyExc_RuntimeError, "Consumer closed");
    kafka.leave(consumer);
    return result;
}

PyDoc_STRVAR(ATTACH_DOC,
"attach(path)\n--\n\n"
"Find the functions of the loaded client whose module is at ``path``, and of the librdkafka that it uses.\n\n"
"Raises OSError where one is missing.");

static PyObject *attach(PyObject *module, PyObject *arguments) {
    const char *path;
    void *found[sizeof SYMBOLS / sizeof *SYMBOLS];
    if (!PyArg_ParseTuple(arguments, "s", &path)) return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (!library) return PyErr_Format(PyExc_OSError, "%s is not loaded", path);
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof *SYMBOLS; i++)
        if (!(found[i] = dlsym(library, SYMBOLS[i].name)))
            return PyErr_Format(PyExc_OSError, "the client has no %s", SYMBOLS[i].name);
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof *SYMBOLS; i++) memcpy(SYMBOLS[i].place, &found[i], sizeof(void *));
    Py_RETURN_NONE;
}

static PyMethodDef FUNCTIONS[] = {
    {"attach", attach, METH_VARARGS, ATTACH_DOC},
    {"consume", consume, METH_VARARGS, CONSUME_DOC},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = FUNCTIONS};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyType_Ready(&BlockType) < 0 ? NULL : PyModule_Create(&MODULE);
#ifdef Py_GIL_DISABLED
    if (module) PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#endif
    if (module && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) Py_CLEAR(module);
    return module;
}
