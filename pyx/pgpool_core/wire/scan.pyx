"""Finding message boundaries; see scan.pxd.

Source: PostgreSQL docs, "Message Formats": Byte1, then an Int32 counting itself but not the Byte1.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset

from pgpool_core.wire.codes cimport *

cdef uint8_t client_marks[256]
cdef uint8_t server_marks[256]
cdef uint8_t group_marks[256]
cdef uint8_t every_server_marks[256]
cdef const uint8_t *CLIENT_MARKS = client_marks
cdef const uint8_t *SERVER_MARKS = server_marks
cdef const uint8_t *GROUP_MARKS = group_marks
cdef const uint8_t *EVERY_SERVER_MARKS = every_server_marks

# Every type that a frontend may send after login stops the scan: each changes what the server owes.
# CopyData alone is skipped.
FRONTEND = bytes([
    FE_BIND, FE_CLOSE, FE_DESCRIBE, FE_EXECUTE, FE_FUNCTION_CALL, FE_FLUSH, FE_PARSE, FE_QUERY, FE_SYNC,
    FE_TERMINATE, FE_COPY_DONE, FE_COPY_FAIL,
])
# What a backend may send after login: the types that somebody acts on, those that besides end the answer to a message of
# the extended protocol, and those that only pass through.
BACKEND = bytes([
    BE_READY, BE_PARAMETER_STATUS, BE_ERROR, BE_COPY_IN, BE_COPY_BOTH, BE_COPY_DONE, BE_PARSE_COMPLETE, BE_CLOSE_COMPLETE,
    BE_COMMAND_COMPLETE, BE_NOTIFICATION,
])
BACKEND_LAST = bytes([BE_BIND_COMPLETE, BE_ROW_DESCRIPTION, BE_NO_DATA, BE_PORTAL_SUSPENDED, BE_EMPTY_QUERY])
BACKEND_PASSING = bytes([
    BE_COPY_OUT, BE_DATA_ROW, BE_NOTICE, BE_FUNCTION_RESULT, BE_COPY_DATA, BE_PARAMETER_DESCRIPTION,
])


cdef void mark(uint8_t *marks, bytes types, uint8_t value):
    for letter in types:
        marks[<uint8_t>letter] = value


memset(client_marks, MARK_REFUSE, sizeof(client_marks))
mark(client_marks, FRONTEND, MARK_STOP)
client_marks[FE_COPY_DATA] = MARK_SKIP
memset(server_marks, MARK_REFUSE, sizeof(server_marks))
mark(server_marks, BACKEND, MARK_STOP)
mark(server_marks, BACKEND_LAST + BACKEND_PASSING, MARK_SKIP)
memset(group_marks, MARK_REFUSE, sizeof(group_marks))
mark(group_marks, BACKEND + BACKEND_LAST, MARK_STOP)
mark(group_marks, BACKEND_PASSING, MARK_SKIP)
memset(every_server_marks, MARK_REFUSE, sizeof(every_server_marks))
mark(every_server_marks, BACKEND + BACKEND_LAST + BACKEND_PASSING, MARK_STOP)
