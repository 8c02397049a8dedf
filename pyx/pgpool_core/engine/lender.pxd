"""Servers for the program around us: control's side of loans, see loan.pxd. Needs the GIL."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.records cimport Loan, Plane, PoolRecord


cdef Loan *loan_new(Plane *plane, PoolRecord *pool, uint32_t worker, uint64_t token, bytes startup) except NULL
cdef void loan_order(Plane *plane, Loan *loan, uint32_t what, bint wake) noexcept nogil
cdef void loan_back(Plane *plane, Loan *loan, uint32_t returned, bytes queries, bytes xacts, bytes parameters)
cdef list loan_letters(Plane *plane, dict known)
