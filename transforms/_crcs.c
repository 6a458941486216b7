/* CRC-32 of each value of a binary array, without a Python object per value. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define INTERFACE 1 /* compared by _columns.py, so that a build of other sources is not used */

/* TABLES[k][b] is what byte b does to the checksum when k more bytes follow it. */
static uint32_t TABLES[8][256];

static void fill_tables(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        TABLES[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++)
            TABLES[k][b] = TABLES[k - 1][b] >> 8 ^ TABLES[0][TABLES[k - 1][b] & 0xFF];
}

/* That of zlib, eight bytes at a time. */
static uint32_t crc32_of(const uint8_t *at, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (; size >= 8; size -= 8, at += 8)
        crc = TABLES[7][(crc ^ at[0]) & 0xFF] ^ TABLES[6][(crc >> 8 ^ at[1]) & 0xFF] ^
              TABLES[5][(crc >> 16 ^ at[2]) & 0xFF] ^ TABLES[4][crc >> 24 ^ at[3]] ^
              TABLES[3][at[4]] ^ TABLES[2][at[5]] ^ TABLES[1][at[6]] ^ TABLES[0][at[7]];
    for (; size; size--) crc = crc >> 8 ^ TABLES[0][(crc ^ *at++) & 0xFF];
    return crc ^ 0xFFFFFFFFu;
}

/* Whether ends[0] to ends[count] go up and stay within the data. */
static int are_sound(const int32_t *ends, Py_ssize_t count, Py_ssize_t size) {
    if (ends[0] < 0 || ends[count] > size) return 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (ends[i] > ends[i + 1]) return 0;
    return 1;
}

PyDoc_STRVAR(CRCS_DOC,
"crcs(ends, data, first, out)\n--\n\n"
"Write the CRC-32 of each value into ``out``, a writable buffer of uint64, one per value.\n\n"
"``ends`` and ``data`` are the buffers of an Arrow array of type binary, ``first`` is the array's offset.\n"
"Raises ValueError where the buffers do not hold these values.");

static PyObject *crcs(PyObject *module, PyObject *arguments) {
    Py_buffer ends, data, out;
    Py_ssize_t first;
    int sound = 0;
    if (!PyArg_ParseTuple(arguments, "y*y*nw*", &ends, &data, &first, &out)) return NULL;
    Py_ssize_t count = out.len / (Py_ssize_t)sizeof(uint64_t), there = ends.len / (Py_ssize_t)sizeof(int32_t);
    if (first >= 0 && first <= there && count < there - first) {
        const int32_t *bounds = (const int32_t *)ends.buf + first;
        uint64_t *to = out.buf;
        Py_BEGIN_ALLOW_THREADS
        sound = are_sound(bounds, count, data.len);
        for (Py_ssize_t i = 0; sound && i < count; i++)
            to[i] = crc32_of((const uint8_t *)data.buf + bounds[i], (size_t)(bounds[i + 1] - bounds[i]));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&ends), PyBuffer_Release(&data), PyBuffer_Release(&out);
    if (!sound) return PyErr_SetString(PyExc_ValueError, "these buffers do not hold as many values"), NULL;
    Py_RETURN_NONE;
}

static PyMethodDef FUNCTIONS[] = {{"crcs", crcs, METH_VARARGS, CRCS_DOC}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, .m_name = "_crcs", .m_size = -1, .m_methods = FUNCTIONS};

PyMODINIT_FUNC PyInit__crcs(void) {
    fill_tables();
    PyObject *module = PyModule_Create(&MODULE);
#ifdef Py_GIL_DISABLED
    if (module) PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#endif
    if (module && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) Py_CLEAR(module);
    return module;
}
