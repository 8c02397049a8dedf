"""Reading the parameters of a startup packet; see parameters.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memcpy, strlen

from pgpool_core.auth.startup cimport REPLICATION_NONE, Startup, startup_next_param
from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.client_end cimport client_fatal, with_name
from pgpool_core.engine.conn cimport conn_doom
from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport gethostname, pgpool_print_peer
from pgpool_core.session.settings cimport (MAX_NAME_LEN, SETTINGS_OK, Block, block_get, block_ref, block_unref, block_with,
                                           setting_name, setting_tracked)
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.span cimport Span, same, text_span

cdef enum:
    SETTINGS_MOST = 10000         # bytes of names and values: PostgreSQL takes no longer startup packet

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef int choose_settings(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """The pool's defaults with what the startup packet asks for; -1 when the client has been refused."""
    cdef const Startup *s = &l.packet
    cdef Span name, value
    cdef uint32_t at
    pthread_mutex_lock(&c.pool.lock)
    c.settings = block_ref(w.plane.settings, c.pool.defaults)
    pthread_mutex_unlock(&c.pool.lock)
    at = s.first_param
    while startup_next_param(buf_bytes(&l.startup), s, &at, &name, &value):
        if same(name, text_span("options")) and c.replication == REPLICATION_NONE \
                and options(w, c, value, ignored(w.plane, name)) != 0:
            return -1
    at = s.first_param                            # parameters by their names count more, wherever they stand
    while startup_next_param(buf_bytes(&l.startup), s, &at, &name, &value):
        if same(name, text_span("user")) or same(name, text_span("database")) or same(name, text_span("options")) \
                or same(name, text_span("replication")) or (name.len > 5 and memcmp(name.at, b"_pq_.", 5) == 0):
            continue
        if not ignored(w.plane, name) and choose(w, c, name, value, "unsupported startup parameter: ") != 0:
            return -1
    if w.plane.application_name_add_host and c.replication == REPLICATION_NONE and not add_host(w, c):
        conn_doom(w, &c.conn, "out of memory")
        return -1
    c.start = block_ref(w.plane.settings, c.settings)
    return 0


cdef bint add_host(Worker *w, ClientConn *c) noexcept nogil:
    """application_name_add_host: `NAME - HOST:PORT`, over a unix socket `NAME - unix(PID@HOSTNAME):PORT`."""
    cdef uint8_t[1024] text
    cdef char[256] host
    cdef Span name, value
    cdef Block *fresh
    cdef int n
    name = text_span("application_name")
    if not block_get(c.settings, name, &value) or value.len == 0:
        value = text_span("app")
    if value.len > 512:
        value.len = 512
    memcpy(text, value.at, value.len)
    if c.peer.family == 1:
        if gethostname(host, sizeof(host)) != 0:
            host[0] = 0
        host[sizeof(host) - 1] = 0
        n = snprintf(<char *>text + value.len, sizeof(text) - value.len, " - unix(%d@%s):%u", <int>c.peer.pid, host,
                     <unsigned int>c.peer.port)
    else:
        pgpool_print_peer(&c.peer, host, sizeof(host))
        if c.peer.family == 6:
            n = snprintf(<char *>text + value.len, sizeof(text) - value.len, " - [%s]:%u", host, <unsigned int>c.peer.port)
        else:
            n = snprintf(<char *>text + value.len, sizeof(text) - value.len, " - %s:%u", host, <unsigned int>c.peer.port)
    value.len += <uint32_t>n
    value.at = text
    if block_with(w.plane.settings, c.settings, name, value, &fresh) != SETTINGS_OK:
        return False
    block_unref(w.plane.settings, c.settings)
    c.settings = fresh
    return True


cdef int choose(Worker *w, ClientConn *c, Span name, Span value, const char *refusal) noexcept nogil:
    """The client begins with `name` at `value`; -1 when it has been refused.

    With session_state = off or warn only what is followed follows a client, and any other is refused, as PgBouncer does.
    """
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span canonical
    cdef Block *fresh
    if not followed(w.plane, c.pool, name, room, &canonical) and (
            c.pool.session_state == SESSION_OFF or c.pool.session_state == SESSION_WARN
            or setting_name(name, room, &canonical) != SETTINGS_OK):
        with_name(w, c, "08P01", refusal, name, "")
        return -1
    if (c.settings.len if c.settings != NULL else 0) + canonical.len + value.len > SETTINGS_MOST:
        client_fatal(w, c, "54000", "the startup parameters are too long")
        return -1
    if block_with(w.plane.settings, c.settings, canonical, value, &fresh) != SETTINGS_OK:
        with_name(w, c, "54000", "startup parameter is too long: ", name, "")
        return -1
    block_unref(w.plane.settings, c.settings)
    c.settings = fresh
    return 0


cdef bint listed(const uint8_t *at, Span name) noexcept nogil:
    """`name` is in a list of names, in any case."""
    while at != NULL and at[0] != 0:
        if strlen(<const char *>at) == name.len and strncasecmp(<const char *>at, <const char *>name.at, name.len) == 0:
            return True
        at += strlen(<const char *>at) + 1
    return False


cdef bint followed(Plane *plane, PoolRecord *pool, Span name, uint8_t *room, Span *canonical) noexcept nogil:
    """`name` is a setting whose value is learnt from what PostgreSQL reports of it; `room` has MAX_NAME_LEN bytes.

    With session_state = off and warn there are more of those, and track_extra_parameters may name others; else all are learnt by the probe.
    """
    if setting_tracked(name, canonical):
        return True
    return (pool.session_state == SESSION_OFF or pool.session_state == SESSION_WARN) and listed(plane.extra, name) \
        and setting_name(name, room, canonical) == SETTINGS_OK


cdef bint ignored(Plane *plane, Span name) noexcept nogil:
    """ignore_startup_parameters names it."""
    cdef bint found
    pthread_mutex_lock(&plane.ignored_lock)
    found = listed(plane.ignored, name)
    pthread_mutex_unlock(&plane.ignored_lock)
    return found


cdef inline bint is_blank(uint8_t byte) noexcept nogil:
    return byte == 0x20 or 0x09 <= byte <= 0x0D


cdef int options(Worker *w, ClientConn *c, Span text, bint lenient) noexcept nogil:
    """The startup parameter `options`: `-c name=value` and `--name=value`, backslash escapes a blank, `-` in a name is `_`.

    Where it is itself in ignore_startup_parameters (`lenient`), the tracked settings in it count and nothing else does.
    """
    cdef uint8_t[SETTINGS_MOST] word
    cdef uint8_t[MAX_NAME_LEN] room
    cdef uint32_t at = 0, n
    cdef bint after_c = False
    cdef Span name, value, canonical
    cdef const uint8_t *equals
    while True:
        while at < text.len and is_blank(text.at[at]):
            at += 1
        if at >= text.len:
            break
        n = 0
        while at < text.len and not is_blank(text.at[at]) and n < sizeof(word):
            if text.at[at] == 0x5C and at + 1 < text.len:
                at += 1
            word[n] = text.at[at]
            n += 1
            at += 1
        if n == sizeof(word):
            if lenient:
                return 0
            client_fatal(w, c, "54000", "the startup parameters are too long")
            return -1
        name.at = word
        name.len = n
        if not after_c and n == 2 and word[0] == 0x2D and word[1] == 0x63:
            after_c = True
            continue
        if not after_c and n > 2 and word[0] == 0x2D and (word[1] == 0x2D or word[1] == 0x63):
            name.at += 2
            name.len -= 2
        elif not after_c:
            name.len = 0
        after_c = False
        equals = <const uint8_t *>memchr(name.at, 0x3D, name.len)
        if lenient and (name.len == 0 or equals == NULL):
            return 0
        if name.len == 0 or equals == NULL:
            client_fatal(w, c, "08P01",
                         "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")
            return -1
        value.at = equals + 1
        value.len = <uint32_t>(name.at + name.len - value.at)
        name.len = <uint32_t>(equals - name.at)
        for n in range(name.len):
            if name.at[n] == 0x2D:
                word[name.at - word + n] = 0x5F   # as in PostgreSQL's ParseLongOption
        if ignored(w.plane, name) or (lenient and not followed(w.plane, c.pool, name, room, &canonical)):
            continue
        if choose(w, c, name, value, "unsupported startup parameter in options: ") != 0:
            return -1
    if after_c and not lenient:
        client_fatal(w, c, "08P01",
                     "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")
        return -1
    return 0
