"""inet and cidr: an address, an address in its network, or a network.

Source: PostgreSQL's network_send: family, bits, whether it is a cidr, how many bytes, the bytes.
"""

import ipaddress as _ipaddress

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.out cimport Out

cdef object IPv4Address = _ipaddress.IPv4Address
cdef object IPv6Address = _ipaddress.IPv6Address
cdef object ip_interface = _ipaddress.ip_interface
cdef object ip_network = _ipaddress.ip_network
cdef object INTERFACES = (_ipaddress.IPv4Interface, _ipaddress.IPv6Interface)
cdef object ADDRESSES = (_ipaddress.IPv4Address, _ipaddress.IPv6Address)
cdef object NETWORKS = (_ipaddress.IPv4Network, _ipaddress.IPv6Network)

cdef enum:
    FAMILY_4 = 2
    FAMILY_6 = 3


cdef class Inet(Codec):
    """inet (an IPv4Address or IPv6Address, or an interface where it has a netmask) or cidr (a network)."""

    cdef readonly bint network

    def __init__(self, unsigned int oid, str name not None, *, bint network):
        Codec.__init__(self, oid, name)
        self.network = network

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef int bits, due
        if length < 4 or at[0] not in (FAMILY_4, FAMILY_6):
            raise ValueError("an address has an unknown family")
        bits, due = at[1], 4 if at[0] == FAMILY_4 else 16
        if at[3] != due or length != 4 + due or bits > 8 * due:
            raise ValueError("an address contradicts itself")
        packed = PyBytes_FromStringAndSize(<const char *>at + 4, due)
        if self.network:
            return ip_network((packed, bits))
        if bits < 8 * due:
            return ip_interface((packed, bits))
        return IPv4Address(packed) if due == 4 else IPv6Address(packed)

    cdef int encode(self, object value, Out out) except -1:
        cdef int bits
        cdef bytes packed
        if isinstance(value, str):
            value = ip_network(value) if self.network else ip_interface(value)
        if getattr(value.network_address if isinstance(value, NETWORKS) else value, "scope_id", None) is not None:
            raise ValueError(f"{self.name} has no room for the scope of an address (behind %)")
        if isinstance(value, NETWORKS):
            bits, packed = value.prefixlen, value.network_address.packed
        elif not self.network and isinstance(value, INTERFACES):
            bits, packed = value.network.prefixlen, value.packed
        elif isinstance(value, ADDRESSES) and not isinstance(value, INTERFACES):
            bits, packed = value.max_prefixlen, value.packed
        else:
            raise TypeError(f"an object of ipaddress is expected, not {type(value).__name__}")
        out.take(1)[0] = FAMILY_4 if len(packed) == 4 else FAMILY_6
        out.take(1)[0] = <uint8_t>bits
        out.take(1)[0] = 1 if self.network else 0
        out.take(1)[0] = <uint8_t>len(packed)
        return out.put(<const char *>packed, len(packed))
