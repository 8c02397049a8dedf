"""PROXY headers from networks that are trusted with them; see forwarding.pxd.

The header is demanded there and not understood anywhere else, so nobody can choose an address for himself, nor is it ever guessed.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from pgpool_core.engine.buf cimport buf_bytes, buf_take
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport pgpool_peer, pgpool_unmap
from pgpool_core.forwarded.header cimport FORWARDED_NEED_MORE, FORWARDED_NOBODY, FORWARDED_OK, Forwarded, forwarded_parse
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_store32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef int set_networks(Plane *plane, networks) except -1:
    """proxy_protocol_networks: each family, bits, address."""
    cdef Network[MAX_NETWORKS] fresh
    cdef uint32_t n = 0
    cdef bytes address
    for family, bits, address in networks:
        if n == MAX_NETWORKS or len(address) > 16:
            raise ValueError(f"at most {MAX_NETWORKS} networks")
        memset(&fresh[n], 0, sizeof(Network))
        fresh[n].family, fresh[n].bits = family, bits
        memcpy(fresh[n].addr, <const char *>address, len(address))
        n += 1
    pthread_mutex_lock(&plane.ignored_lock)
    memcpy(plane.networks, fresh, n * sizeof(Network))
    pgpool_store32(&plane.n_networks, n)
    pthread_mutex_unlock(&plane.ignored_lock)
    return 0


cdef bint has(const Network *network, const pgpool_peer *peer) noexcept nogil:
    cdef uint8_t whole = network.bits >> 3, rest = network.bits & 7
    if network.family != peer.family or memcmp(network.addr, peer.addr, whole) != 0:
        return False
    return rest == 0 or (network.addr[whole] ^ peer.addr[whole]) >> (8 - rest) == 0


cdef bint is_forwarded(Plane *plane, const pgpool_peer *peer) noexcept nogil:
    """Whether a connection from `peer` begins with a PROXY header."""
    cdef bint found = False
    cdef uint32_t i
    if pgpool_load32(&plane.n_networks) == 0:
        return False
    pthread_mutex_lock(&plane.ignored_lock)
    for i in range(plane.n_networks):
        found = found or has(&plane.networks[i], peer)
    pthread_mutex_unlock(&plane.ignored_lock)
    return found


cdef bint forwarded(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    cdef Forwarded header
    cdef int r = forwarded_parse(buf_bytes(&l.input), l.input.len, &header)
    if r == FORWARDED_NEED_MORE:
        return False
    if r != FORWARDED_OK:
        client_fatal(w, c, "08P01", "a PROXY header has to come first (proxy_protocol_networks)")
        return False
    buf_take(&l.input, header.len)
    if header.family != FORWARDED_NOBODY:
        memset(&c.peer, 0, sizeof(pgpool_peer))
        c.peer.family = header.family
        memcpy(c.peer.addr, header.addr, sizeof(header.addr))
        c.peer.port = header.port
        c.peer.uid = -1
        pgpool_unmap(&c.peer)
    elif not header.is_local:                     # somebody else's connection: the balancer's account is not whose it is
        c.peer.uid = -1
        c.peer.pid = 0
    l.phase = LG_STARTUP
    return True
