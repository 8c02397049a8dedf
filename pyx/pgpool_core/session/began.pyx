"""The question what a server begins with, for control, which asks it before anybody has the server: doors only. See began.pyi."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

from pgpool_core.session.probe cimport (FOUND_NAMED, FOUND_SETTING, PROBE_ROW, PROBE_SETTINGS, Found, SettingNames, found_unescape,
                                        names_find, probe_next, probe_write)

cdef enum:
    QUESTION_MAX = 65536          # bytes of SQL


def began_question(bytes text not None):
    """The SQL that asks which settings a session stands at; `text` has run in it, and may name settings."""
    cdef SettingNames names
    cdef size_t n
    room = bytearray(QUESTION_MAX)
    cdef uint8_t[::1] out = room
    memset(&names, 0, sizeof(names))
    names_find(&names, <const uint8_t *><const char *>text, len(text))
    n = probe_write(PROBE_SETTINGS, NULL, &names, &out[0], QUESTION_MAX)
    return bytes(room[:n]) if n else None


def began_settings(bytes rows not None, bytes user not None):
    """What its answer says, DataRows only, in the session of `user`: pairs of a name and a value."""
    cdef const uint8_t *at = <const uint8_t *><const char *>rows
    cdef size_t n = len(rows), done = 0
    cdef Found found
    cdef uint8_t *owned
    cdef int r
    cdef list pairs = []
    while True:
        r = probe_next(at, n, &done, &found)
        if r != PROBE_ROW:
            break
        if (found.kind != FOUND_SETTING and found.kind != FOUND_NAMED) or found.value.at == NULL:
            continue
        if not found_unescape(&found, &owned):
            raise MemoryError
        name, value = (<const char *>found.name.at)[:found.name.len], (<const char *>found.value.at)[:found.value.len]
        free(owned)
        pairs.append((name, value))
    if done != n:
        raise ValueError("not an answer to this question")
    usual = {b"role": b"none", b"session_authorization": user}
    return [(name, value) for name, value in pairs if usual.get(name) != value and not name.startswith(b"transaction_")]
