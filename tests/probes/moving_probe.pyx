"""Doors to `moving.parcel` for tests and fuzz targets: a parcel as a dict, and back."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.moving.parcel cimport *
from pgpool_core.wire.span cimport Span

BLOCKS = {PARCEL_SETTINGS: "settings", PARCEL_START: "start", PARCEL_STANDS: "stands", PARCEL_BEGUN: "begun"}


cdef Span span(bytes data):
    cdef Span s
    s.at, s.len = <const uint8_t *><const char *>data, <uint32_t>len(data)
    return s


cdef list numbered(const Parcel *p, uint8_t kind):
    cdef ParcelText text
    cdef uint32_t at = 0
    cdef list found = []
    while parcel_next(p, kind, &at, &text):
        if kind == PARCEL_PLANTED:
            found.append((text.id, bool(text.fresh)))
        elif kind == PARCEL_NAME:
            found.append((text.id, bool(text.fresh), text.body.at[:text.body.len]))
        else:
            found.append((text.id, text.salt, text.flags, text.body.at[:text.body.len]))
    return found


def read(bytes data):
    """What a parcel says; None for a broken one. The bytes are read from memory of exactly their length, for sanitizers."""
    cdef Parcel p
    cdef uint8_t *copy = <uint8_t *>malloc(len(data))
    if copy == NULL:
        raise MemoryError
    try:
        memcpy(copy, <const char *>data, len(data))
        if parcel_read(copy, len(data), &p) != PARCEL_OK:
            return None
        said = {}
        if p.has_client:
            said["client"] = {**p.client, "key": (<uint8_t *>p.client.key)[:CANCEL_KEY], "addr": (<uint8_t *>p.client.addr)[:16],
                              "user": p.user.at[:p.user.len]}
        if p.has_server:
            said["server"] = {**p.server, "key": p.key.at[:p.key.len], "host": p.host.at[:p.host.len]}
        if p.unread.at != NULL:
            said["unread"] = p.unread.at[:p.unread.len]
        if p.channels.at != NULL:
            said["channels"] = p.channels.at[:p.channels.len]
        for i, name in enumerate(BLOCKS.values()):
            if p.blocks[i].at != NULL:
                said[name] = p.blocks[i].at[:p.blocks[i].len], bool(p.verified[i])
        for kind, name in ((PARCEL_TEXT, "texts"), (PARCEL_NAME, "names"), (PARCEL_PLANTED, "planted")):
            if found := numbered(&p, kind):
                said[name] = found
        return said
    finally:
        free(copy)


def write(said):
    """The parcel that `read` understands so; None where it would be too long."""
    cdef ParcelWriter w
    cdef ClientFacts client
    cdef ServerFacts server
    cdef bytes key
    parcel_begin(&w)
    if "client" in said:
        facts = said["client"]
        memset(&client, 0, sizeof(ClientFacts))
        key = facts["key"]
        memcpy(client.key, <const char *>key, CANCEL_KEY)
        client.connect_us, client.request_us, client.idle_us = facts["connect_us"], facts["request_us"], facts["idle_us"]
        client.pinned_us, client.pin_cause, client.pins = facts["pinned_us"], facts["pin_cause"], facts["pins"]
        client.unnamed_flags, client.warned = facts["unnamed_flags"], facts["warned"]
        client.unnamed_here, client.unnamed_fresh, client.pin_told = facts["unnamed_here"], facts["unnamed_fresh"], facts["pin_told"]
        client.family, client.port, client.uid, client.pid = facts["family"], facts["port"], facts["uid"], facts["pid"]
        key = facts["addr"]
        memcpy(client.addr, <const char *>key, 16)
        parcel_client(&w, &client, span(facts["user"]))
    for kind, name in BLOCKS.items():
        if name in said:
            data, verified = said[name]
            parcel_block(&w, kind, <const uint8_t *><const char *>data, len(data), verified)
    if "unread" in said:
        data = said["unread"]
        parcel_two(&w, PARCEL_UNREAD, <const uint8_t *><const char *>data, len(data) // 2,
                   <const uint8_t *><const char *>data + len(data) // 2, len(data) - len(data) // 2)
    if "channels" in said:
        data = said["channels"]
        parcel_bytes(&w, PARCEL_CHANNELS, <const uint8_t *><const char *>data, len(data))
    for number, salt, flags, body in said.get("texts", ()):
        parcel_text(&w, number, salt, flags, <const uint8_t *><const char *>body, len(body))
    for number, fresh, body in said.get("names", ()):
        parcel_name(&w, number, fresh, <const uint8_t *><const char *>body, len(body))
    if "server" in said:
        facts = said["server"]
        memset(&server, 0, sizeof(ServerFacts))
        server.created_us, server.adopted_us, server.backend_pid = facts["created_us"], facts["adopted_us"], facts["backend_pid"]
        server.port, server.family_unix = facts["port"], facts["family_unix"]
        server.was_reset, server.sequences_due, server.in_doubt = facts["was_reset"], facts["sequences_due"], facts["in_doubt"]
        parcel_server(&w, &server, span(facts["key"]), span(facts["host"]))
    for number, fresh in said.get("planted", ()):
        parcel_planted(&w, number, fresh)
    try:
        return None if w.failed else w.at[:w.len]
    finally:
        free(w.at)
