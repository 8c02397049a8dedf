"""Logs in with a libpq of one's choice: `libpq_login.py LIBRARY CONNINFO` prints its version, the protocol of TLS, and 42; or why not."""

from __future__ import annotations

import ctypes
import sys

CONNECTION_OK = 0


def main(library: str, conninfo: str) -> str:
    libpq = ctypes.CDLL(library)
    libpq.PQconnectdb.restype = libpq.PQexec.restype = ctypes.c_void_p
    libpq.PQerrorMessage.restype = libpq.PQsslAttribute.restype = libpq.PQgetvalue.restype = ctypes.c_char_p
    link = ctypes.c_void_p(libpq.PQconnectdb(conninfo.encode()))
    if libpq.PQstatus(link) != CONNECTION_OK:
        return str(libpq.PQerrorMessage(link).decode())
    result = ctypes.c_void_p(libpq.PQexec(link, b"select 6 * 7"))
    answer = libpq.PQgetvalue(result, 0, 0)
    protocol = libpq.PQsslAttribute(link, b"protocol")
    libpq.PQfinish(link)
    return f"{libpq.PQlibVersion() // 10000} {protocol.decode()} {answer.decode()}"


print(main(*sys.argv[1:]))
