"""Where messages begin and end in a stream that arrives in buffers of any size.

A `Cursor` stands between buffers; `scan_to` walks over the messages nobody asked about and stops at the ones that a
table marks. Bodies are never copied. A header that is not whole yet is left to the caller, who shows it again in
front of the bytes that follow.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.wire.be cimport load_be32


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


cdef inline int scan_to(Cursor *cur, const uint8_t *marks, uint32_t max_body, const uint8_t *buf, size_t end,
                        size_t *pos, Frame *out) noexcept nogil:
    """Advance `*pos` to the next marked message before `end`; write `out` only on SCAN_FOUND.

    On SCAN_END fewer than HEADER_LEN bytes are left between `*pos` and `end`: the start of a header. The length word
    is read as unsigned, so a negative length meets the same test as a huge one.
    """
    cdef size_t at = pos[0]
    cdef size_t have
    cdef uint32_t length
    cdef uint8_t kind
    if cur.remain:
        have = end - at
        if cur.remain > have:
            cur.remain -= <uint32_t>have
            pos[0] = end
            return SCAN_END
        at += cur.remain
        cur.remain = 0
    while end - at >= HEADER_LEN:
        kind = buf[at]
        length = load_be32(buf + at + 1)
        if marks[kind] == MARK_REFUSE:
            pos[0] = at
            return SCAN_BAD_TYPE
        if length < 4 or length - 4 > max_body:
            pos[0] = at
            return SCAN_BAD_LENGTH
        length -= 4
        if marks[kind] == MARK_STOP:
            out.type = kind
            out.body_len = length
            pos[0] = at
            return SCAN_FOUND
        cur.type = kind
        have = end - at - HEADER_LEN
        if length > have:
            cur.remain = <uint32_t>(length - have)
            at = end
            break
        at += HEADER_LEN + <size_t>length
    pos[0] = at
    return SCAN_END


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
