"""Every other compiled module of the package, linked into this one; see bundle.pyi."""

from cpython.object cimport PyObject

import sys
from importlib.machinery import ModuleSpec

cdef extern from *:
    """
    /* setup.py writes bundle_parts.h: a PART(name, function) for each module. */
    #define PART(name, function) PyObject *function(void);
    #include "bundle_parts.h"
    #undef PART
    #define PART(name, function) {name, function},
    static const struct _inittab bundle_parts[] = {
    #include "bundle_parts.h"
    {NULL, NULL}};
    #undef PART
    """
    struct Part "_inittab":
        const char *name
        PyObject *(*initfunc)() except NULL    # lends a PyModuleDef: all of ours are initialised in phases (PEP 489)
    const Part *bundle_parts

cdef extern from "Python.h":
    ctypedef struct PyModuleDef:
        pass
    object PyModule_FromDefAndSpec(PyModuleDef *definition, object spec)
    PyModuleDef *PyModule_GetDef(object module)
    int PyModule_ExecDef(object module, PyModuleDef *definition) except -1


cdef class Finder:
    cdef dict places               # in bundle_parts, by name: every import of the process asks here first

    def __cinit__(self):
        cdef Py_ssize_t place = 0
        self.places = {}
        while bundle_parts[place].name != NULL:
            self.places[bundle_parts[place].name.decode()] = place
            place += 1

    def find_spec(self, name, path=None, target=None):
        if name not in self.places:
            return None
        spec = ModuleSpec(name, self, origin=__file__)
        spec.has_location = True
        return spec

    def create_module(self, spec):
        cdef Py_ssize_t place = self.places[spec.name]
        return PyModule_FromDefAndSpec(<PyModuleDef *>bundle_parts[place].initfunc(), spec)

    def exec_module(self, module):
        PyModule_ExecDef(module, PyModule_GetDef(module))


FINDER = Finder()


def install():
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
