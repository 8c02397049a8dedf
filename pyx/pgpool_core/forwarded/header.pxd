"""The PROXY protocol: what a load balancer says, ahead of a client's first byte, about where that client comes from.

`forwarded_parse` looks at whatever has come and keeps nothing, so it is called again from the first byte when more arrives.
Source: "The PROXY protocol, Versions 1 & 2" (haproxy/doc/proxy-protocol.txt), sections 2.1 and 2.2.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum:
    FORWARDED_OK = 0
    FORWARDED_NEED_MORE = 1       # not a failure: call again when more bytes have come
    FORWARDED_BAD = -1            # neither version, or broken

    FORWARDED_NOBODY = 0          # the balancer itself connects (`is_local`: a health check), or does not tell: the socket's address counts


cdef struct Forwarded:
    uint32_t len                  # bytes of the header
    uint8_t family                # 4, 6 or FORWARDED_NOBODY
    uint8_t is_local              # the connection is the balancer's own
    uint8_t addr[16]              # of the client; 4 bytes of it with IPv4
    uint16_t port


# Writes `out` on FORWARDED_OK alone. Reads no more than `avail` bytes.
cdef int forwarded_parse(const uint8_t *buf, size_t avail, Forwarded *out) noexcept nogil
