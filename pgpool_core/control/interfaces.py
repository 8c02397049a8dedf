"""The addresses of this machine's network interfaces, for samehost and samenet. Source: getifaddrs(3)."""

from __future__ import annotations

import ctypes
import functools
import ipaddress
import os
import socket
from typing import Any

from pgpool_core import logs

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class _SockAddr(ctypes.Structure):
    _fields_ = (("family", ctypes.c_ushort), ("data", ctypes.c_ubyte * 26))


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = (
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
    ("netmask", ctypes.POINTER(_SockAddr)),
    ("broadcast", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
)


def own_interfaces() -> list[Interface]:
    """Addresses with their networks, as they are now; none where the system does not tell, and one warning."""
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        _warn(os.strerror(ctypes.get_errno()))
        return []
    found: list[Interface] = []
    try:
        at: Any = first
        while at:
            address, mask = _raw(at.contents.address), _raw(at.contents.netmask)
            if address and mask:
                prefix = bin(int.from_bytes(mask, "big")).count("1")
                found.append(ipaddress.ip_interface((address, prefix)))
            at = at.contents.next
    finally:
        libc.freeifaddrs(first)
    return found


@functools.cache
def _warn(reason: str) -> None:
    """Once for each reason: logins ask again and again."""
    text = f"samehost and samenet fit nobody: the system does not tell its addresses: {reason} (auth_hba_file)"
    logs.LOGGER.warning("%s", logs.line("", text))


def _raw(address: Any) -> bytes:
    """The bytes of an IPv4 or IPv6 address behind a port; of IPv6, behind the flow label too."""
    if not address:
        return b""
    data = bytes(address.contents.data)
    if address.contents.family == socket.AF_INET:
        return data[2:6]
    return data[6:22] if address.contents.family == socket.AF_INET6 else b""
