"""What a startup packet asks for besides database and user."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker


cdef int choose_settings(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
