"""Where messages begin and end in a stream that arrives in buffers of any size.

A `Cursor` stands between buffers; `scan_to` walks over the messages nobody asked about and stops at the ones that a
table marks. Bodies are never copied. A header that is not whole yet is left to the caller, who shows it again in
front of the bytes that follow.
"""

from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    HEADER_LEN = 5                # Byte1 type and Int32 length

    SCAN_END = 0                  # nothing marked is left in this buffer; an incomplete header may be
    SCAN_FOUND = 1                # `*pos` is at the first byte of a marked message
    SCAN_BAD_LENGTH = -1          # length word below 4, or body above the caller's limit
    SCAN_BAD_TYPE = -2            # a type that the table refuses

    MARK_SKIP = 0
    MARK_STOP = 1
    MARK_REFUSE = 2


cdef struct Cursor:               # owns nothing; all zero between messages
    uint32_t remain               # body bytes of message `type` still to come
    uint8_t type


cdef struct Frame:                # one header; the body may be incomplete
    uint8_t type
    uint32_t body_len             # bytes after the header


cdef const uint8_t *CLIENT_MARKS   # 256 marks: what a client may send after login
cdef const uint8_t *SERVER_MARKS   # 256 marks: what a server may send after login
cdef const uint8_t *GROUP_MARKS    # the same, stopping at every last answer to a message of the extended protocol
cdef const uint8_t *EVERY_SERVER_MARKS   # the same, stopping at every message

cdef int scan_to(Cursor *cur, const uint8_t *marks, uint32_t max_body, const uint8_t *buf, size_t end,
                 size_t *pos, Frame *out) noexcept nogil


cdef inline void scan_past(Cursor *cur, const Frame *frame, size_t end, size_t *pos) noexcept nogil:
    """Step over the message that `scan_to` found at `*pos`, or over as much of it as the buffer holds."""
    cdef size_t have = end - pos[0] - HEADER_LEN
    cur.type = frame.type
    if frame.body_len > have:
        cur.remain = <uint32_t>(frame.body_len - have)
        pos[0] = end
    else:
        pos[0] += HEADER_LEN + <size_t>frame.body_len


cdef inline bint scan_whole(const Frame *frame, size_t end, size_t pos) noexcept nogil:
    """True when the message found at `pos` lies completely inside the buffer."""
    return frame.body_len <= end - pos - HEADER_LEN
