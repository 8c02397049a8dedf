"""The question to PostgreSQL, and its answer; see inquiry.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcpy, strlen

from pgpool_core.engine.align cimport server_stands, settings_align, settings_tell
from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.back cimport back_meant
from pgpool_core.engine.buf cimport buf_bytes, buf_free
from pgpool_core.engine.channels cimport channel_leave
from pgpool_core.engine.conn cimport conn_send, counters_of
from pgpool_core.engine.counters cimport PIN_KINDS, count_add
from pgpool_core.engine.functions cimport SQL_HIDDEN
from pgpool_core.engine.leak cimport leak_free
from pgpool_core.engine.pins cimport pins_drop, pins_set
from pgpool_core.engine.records cimport *
from pgpool_core.engine.setting_names cimport NAMING, SQL_UNSEEN, WENT_BACK_WHOLLY, names_done, names_hidden
from pgpool_core.session.outcome cimport outcome_find, outcome_learn
from pgpool_core.session.probe cimport *
from pgpool_core.session.settings cimport (MAX_NAME_LEN, SETTINGS_OK, Block, block_entry, block_get, block_ref,
                                           block_unref, put_setting, setting_name, setting_tracked)
from pgpool_core.session.sqlscan cimport *
from pgpool_core.statements.prepared cimport prepared_clear
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load_ptr, pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK
from pgpool_core.wire.span cimport Span, same, text_span


cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef bint remembered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """Nobody needs to be asked: the same text has been seen to work on the same settings."""
    cdef Block *after
    if s.sayings != 1 or s.erred or c.pins or c.settings != s.settings:
        return False
    after = outcome_find(w.outcomes, c.pool, s.settings, c.start, s.said, s.said_len)
    if after == NULL:
        return False
    inquiry_lost(w, s, after)
    server_stands(w, s, block_ref(w.plane.settings, after))
    block_unref(w.plane.settings, c.settings)
    c.settings = block_ref(w.plane.settings, after)
    s.suspect = s.sayings = 0
    s.cause = 0
    names_done(s)
    return True


cdef bint reuses_texts(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Whether texts that name settings may be run again without being sent again, and without being kept by us."""
    return c.pins & PIN_PREPARED or s.suspect & SQL_PREPARES or (c.unnamed_here and c.unnamed_flags & NAMING)


cdef bint has_unseen(const ServerConn *s) noexcept nogil:
    """`s` stands at a value that pg_settings may hide: not to be listed does not mean that it is reset."""
    cdef Span value
    return block_get(s.settings, text_span("dynamic_library_path"), &value) \
        or block_get(s.settings, text_span("session_preload_libraries"), &value) \
        or block_get(s.settings, text_span("extension_control_path"), &value) \
        or block_get(s.settings, text_span("output_plugin_libraries"), &value)


cdef uint8_t parts_of(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Which questions the suspicions ask for; 0 when they turn out to be none."""
    cdef uint32_t f = s.suspect
    cdef uint8_t parts = 0
    if f & (SQL_OPAQUE | SQL_EXECUTES | SQL_DISCARDS):
        return PROBE_ALL | (PROBE_HIDDEN if f & SQL_UNSEEN or has_unseen(s) else 0)
    if f & SQL_SETS:
        parts |= PROBE_SETTINGS | (PROBE_HIDDEN if f & SQL_UNSEEN or has_unseen(s) else 0)
    if f & (SQL_PREPARES | SQL_DEALLOCATES):
        parts |= PROBE_PREPARED
    if f & (SQL_HOLDS | SQL_CLOSES):
        parts |= PROBE_CURSORS
    if f & (SQL_LISTENS | SQL_UNLISTENS):
        parts |= PROBE_LISTENS
    if f & SQL_TEMPS:
        parts |= PROBE_TEMPORARY
    if f & (SQL_ADVISORY | SQL_UNLOCKS):
        parts |= PROBE_LOCKS
    return parts


cdef bint inquiry_keeps(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """A transaction has ended and something may be left: True while `c` keeps `s`."""
    cdef uint8_t parts
    if c.unnamed_fresh:
        pins_set(w, c, c.pins | PIN_UNNAMED)           # and nothing is asked: a query of ours would end the statement
        return True
    if c.pins & PIN_UNNAMED:
        pins_set(w, c, c.pins & ~<uint32_t>PIN_UNNAMED)
    if s.suspect and not remembered(w, s, c):
        if c.pool.session_state == SESSION_PIN:
            s.suspect = s.sayings = 0
            return True
        parts = parts_of(s, c)
        if s.suspect & SQL_LOADS:
            pins_set(w, c, c.pins | PIN_LOAD)
            if c.state != CL_ACTIVE:
                return True                       # it has been sent away
        if parts:
            probe(w, s, c, parts)
            return True
        s.suspect = s.sayings = 0
    if c.pins and c.settings != s.settings:
        settings_align(w, c, s)
        conn_send(w, &s.conn, w.scratch, 0)
    return c.pins != 0


cdef bint inquiry_last(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """`c` has said good-bye behind its last query: True while PostgreSQL is asked what that has left.

    Only with leak_check, where somebody wants to know. Without, the server is cleaned at once.
    """
    if s.pool.leak_every == 0 or s.suspect == 0 or c.unnamed_fresh or c.pool.session_state == SESSION_PIN:
        return False
    return inquiry_keeps(w, s, c) and (s.chore == CHORE_PROBE or c.state != CL_ACTIVE)


cdef void probe(Worker *w, ServerConn *s, ClientConn *c, uint8_t parts) noexcept nogil:
    """Send the probe; its answer is kept in `s.answer` and read in inquiry_answered."""
    cdef SettingNames none
    cdef size_t n
    none.len = none.count = none.overflow = 0
    buf_free(&s.answer)                           # of a probe whose client has left before it was answered
    if s.suspect & SQL_HIDDEN and parts & PROBE_SETTINGS:
        names_hidden(w, s)
    n = probe_write(parts, s.settings, s.named if s.named != NULL else &none, w.scratch + SCRATCH_SIZE // 2,
                    SCRATCH_SIZE // 2)
    s.risked = pgpool_load32(&s.cancels) != 0     # it may be hit, and is asked again then
    if not (s.risked or reuses_texts(s, c)):
        names_done(s)
    s.learns = s.sayings == 1 and not s.erred and c.settings == s.settings
    s.sayings = s.erred = 0
    if s.learns:
        s.base = block_ref(w.plane.settings, s.settings)
        s.learnt_len = s.said_len                 # while it is under way another text may be said
        memcpy(s.learnt, s.said, s.said_len)
    s.probing = s.suspect
    s.probed_parts = parts
    s.suspect = 0
    s.chore_failed = 0
    if n:
        n = build_query(w.scratch, SCRATCH_SIZE // 2, w.scratch + SCRATCH_SIZE // 2, n)
    if n == 0 or ask(s, EXPECT_CHORE) != EXPECT_OK:
        unknown(w, s, c)
        return
    count_add(&counters_of(w, c.pool).probes, 1)
    s.chore = CHORE_PROBE
    if c.start != c.pool.resets:
        c.holding = 1                             # what it has reset goes back to its own start before it goes on
    conn_send(w, &s.conn, w.scratch, n)


cdef void unknown(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """What is left cannot be found out: `c` keeps `s` for good."""
    forget_saying(w, s)
    s.probing = 0
    pins_set(w, c, c.pins | PIN_UNKNOWN)


cdef void inquiry_answered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """The probe has been answered: bring the client's block and its pins in line with what PostgreSQL said."""
    cdef Found found
    cdef Block *now = NULL
    cdef size_t at = 0
    cdef uint32_t pins = 0
    cdef int r
    cdef bint fine = not s.chore_failed and s.answer.len <= MAX_ANSWER
    if s.chore_failed and s.risked:
        again(w, s, c)
        return
    if s.probed_parts & PROBE_SETTINGS:
        now = tracked_part(w, s.settings)
        fine = fine and now != NULL
    while fine:
        r = probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found)
        if r != PROBE_ROW:
            fine = r == PROBE_END
            break
        if found.kind == FOUND_SETTING or found.kind == FOUND_NAMED:
            fine = note_setting(w, c.pool, found, &now)
        else:
            pins |= pin_of(found.kind)
            if found.kind == FOUND_LISTEN and c.listens != NULL:
                channel_leave(w, c, found.name)   # it hears of it from its server now
    if fine and now != NULL:
        fine = stands(w, s, c, now)
    if makes_temporary(c.settings):
        pins |= PIN_TEMPORARY
    block_unref(w.plane.settings, now)
    if s.learns and fine and c.settings == s.settings:
        outcome_learn(w.outcomes, w.plane.settings, c.pool, s.base, c.start, s.learnt, s.learnt_len, s.settings)
    forget_saying(w, s)
    buf_free(&s.answer)
    if not fine:
        unknown(w, s, c)
        return
    if pins & ~c.pins:
        c.pin_cause = s.cause
    s.cause = 0
    s.probing = 0
    pins_set(w, c, pins | (c.pins & ~asked_pins(s.probed_parts)))
    if c.pins == 0 and s.suspect == 0:
        names_done(s)


cdef void again(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """A cancel request that was under way to `s` may have hit the probe: it is sent anew, behind what the client has sent meanwhile."""
    forget_saying(w, s)
    s.suspect |= s.probing
    s.probing = 0
    s.sayings = 2                                 # nothing is learnt from two questions
    if c.holding:
        probe(w, s, c, parts_of(s, c))


cdef void forget_saying(Worker *w, ServerConn *s) noexcept nogil:
    if s.learns:
        block_unref(w.plane.settings, s.base)
        s.base = NULL
        s.learns = 0


cdef bint is_element(Span element, const char *name) noexcept nogil:
    return element.len == strlen(name) and strncasecmp(<const char *>element.at, name, element.len) == 0


cdef bint makes_temporary(const Block *block) noexcept nogil:
    """Whether search_path makes tables temporary that are not called so: it begins with pg_temp, or with "$user" and that."""
    cdef Span value, element
    cdef uint32_t at = 0
    if not block_get(block, text_span("search_path"), &value):
        return False
    while at < value.len:
        while at < value.len and (value.at[at] <= 0x20 or value.at[at] == 0x22):
            at += 1
        element.at, element.len = value.at + at, 0
        while at < value.len and value.at[at] > 0x20 and value.at[at] != 0x22 and value.at[at] != 0x2C:
            at += 1
            element.len += 1
        if is_element(element, "pg_temp"):
            return True
        if not is_element(element, "$user"):
            return False
        while at < value.len and (value.at[at] <= 0x20 or value.at[at] == 0x22 or value.at[at] == 0x2C):
            at += 1
    return False


cdef uint32_t pin_of(uint8_t kind) noexcept nogil:
    if kind == FOUND_PREPARED:
        return PIN_PREPARED
    if kind == FOUND_CURSOR:
        return PIN_CURSOR
    if kind == FOUND_LISTEN:
        return PIN_LISTEN
    if kind == FOUND_TEMPORARY:
        return PIN_TEMPORARY
    if kind == FOUND_LOCK:
        return PIN_LOCK
    return PIN_UNKNOWN


cdef uint32_t asked_pins(uint8_t parts) noexcept nogil:
    """The pins about which a probe with these parts has the last word."""
    cdef uint32_t pins = 0
    if parts & PROBE_PREPARED:
        pins |= PIN_PREPARED
    if parts & PROBE_CURSORS:
        pins |= PIN_CURSOR
    if parts & PROBE_LISTENS:
        pins |= PIN_LISTEN
    if parts & PROBE_TEMPORARY:
        pins |= PIN_TEMPORARY
    if parts & PROBE_LOCKS:
        pins |= PIN_LOCK
    return pins


cdef void inquiry_left(Worker *w, ServerConn *s) noexcept nogil:
    """The probe has been answered when its client had left already: what it would have been kept for is counted all the same."""
    cdef Found found
    cdef Block *now = NULL
    cdef size_t at = 0
    cdef uint32_t pins = 0, bit
    cdef bint fine = not s.chore_failed and s.answer.len <= MAX_ANSWER
    if s.probed_parts & PROBE_SETTINGS:
        now = tracked_part(w, s.settings)
        fine = fine and now != NULL
    while fine and probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found) == PROBE_ROW:
        if found.kind == FOUND_SETTING or found.kind == FOUND_NAMED:
            fine = note_setting(w, s.pool, found, &now)
        else:
            pins |= pin_of(found.kind)
    if fine and now != NULL and now != s.settings:
        count_add(&counters_of(w, s.pool).settings_kept, 1)
    block_unref(w.plane.settings, now)
    buf_free(&s.answer)
    for bit in range(PIN_KINDS):
        if (pins & ~s.left_pins) >> bit & 1:
            count_add(&counters_of(w, s.pool).pinned_for[bit], 1)


cdef bint note_setting(Worker *w, PoolRecord *pool, Found found, Block **now) noexcept nogil:
    """One row about a setting: put it into `*now` where it is something of this session's."""
    cdef uint8_t *owned
    cdef bint fine = found_unescape(&found, &owned) and note_value(w, pool, &found, now)
    free(owned)
    return fine


cdef bint note_value(Worker *w, PoolRecord *pool, const Found *found, Block **now) noexcept nogil:
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span name, user
    if found.value.at == NULL or now[0] == NULL or setting_name(found.name, room, &name) != SETTINGS_OK:
        return True                               # no such setting
    if same(name, text_span("transaction_isolation")) or same(name, text_span("transaction_read_only")) \
            or same(name, text_span("transaction_deferrable")):
        return True                               # of one transaction, whatever pg_settings calls its source
    if found.kind == FOUND_NAMED:
        user.at = buf_bytes(&pool.user)
        user.len = pool.user.len
        if same(name, text_span("role")) and same(found.value, text_span("none")):
            return True
        if same(name, text_span("session_authorization")) and same(found.value, user):
            return True
    return put_setting(w.plane.settings, now, name, found.value)


cdef Block *tracked_part(Worker *w, Block *block) noexcept nogil:
    """`block` without anything that is not tracked; held for the caller. NULL when memory is short, or nothing was ever reported."""
    cdef Block *part = block_ref(w.plane.settings, block)
    cdef Span name, value, canonical, nothing
    cdef uint32_t at = 0
    nothing.at = NULL
    nothing.len = 0
    while block != NULL and at < block.len:
        at = block_entry(block, at, &name, &value)
        if not setting_tracked(name, &canonical) and not put_setting(w.plane.settings, &part, name, nothing):
            block_unref(w.plane.settings, part)
            return NULL
    return part


cdef bint is_set(ServerConn *s, Span name) noexcept nogil:
    """Whether the answer says that the session has set `name`."""
    cdef Found found
    cdef size_t at = 0
    while probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found) == PROBE_ROW:
        if found.kind == FOUND_SETTING and same(found.name, name):
            return True
    return False


cdef bint stands(Worker *w, ServerConn *s, ClientConn *c, Block *now) noexcept nogil:
    """`s` stands at `now`. So does `c`, but what it has reset goes back to what it began with."""
    cdef Block *own = block_ref(w.plane.settings, now)
    cdef Span name, value, other
    cdef uint32_t at = 0
    cdef bint said
    while c.start != NULL and at < c.start.len:
        at = block_entry(c.start, at, &name, &value)
        if setting_tracked(name, &other):
            said = is_set(s, name)
        else:
            said = block_get(now, name, &other)
            if said and other.len == 0 and value.len and memchr(name.at, 0x2E, name.len) != NULL:
                said = not back_meant(s, name, True)      # a custom setting: reset it is ''
            elif not said and (same(name, text_span("role")) or same(name, text_span("session_authorization"))):
                said = not back_meant(s, name, s.probing & WENT_BACK_WHOLLY or block_get(c.settings, name, &other))     # SET ROLE NONE
        if not said and not put_setting(w.plane.settings, &own, name, value):
            block_unref(w.plane.settings, own)
            return False
    pgpool_store8(&now.verified, 1)
    pgpool_store8(&own.verified, 1)
    settings_tell(w, c, own)
    inquiry_lost(w, s, now)
    server_stands(w, s, block_ref(w.plane.settings, now))
    if own != c.settings:
        count_add(&counters_of(w, c.pool).settings_kept, 1)
    block_unref(w.plane.settings, c.settings)
    c.settings = own
    return True


cdef void inquiry_part(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """`c` leaves `s`: what it may have left there has to be cleaned away before anybody else comes."""
    if s.suspect or s.probing or c.pins & ~<uint32_t>PIN_UNNAMED:
        s.dirty = 1
    if c.pins & (PIN_LOAD | PIN_UNKNOWN) or s.suspect & SQL_LOADS:
        pgpool_store8(&s.seat.close_needed, 1)                   # nothing unloads a library
    s.left_pins = c.pins
    s.suspect = s.probing = 0
    s.sayings = s.erred = 0
    s.cause = 0
    forget_saying(w, s)
    pins_drop(w, c)


cdef bint put_first_role(Worker *w, PoolRecord *pool, Block **now) noexcept nogil:
    """Put the role that a login has by default into `*now`.

    Where connect_query may have set the one that servers begin with, nobody knows which that is: '' is no role that a client stands at.
    """
    cdef Block *defaults
    cdef Block *resets
    cdef Span role = text_span("role"), value, other
    cdef bint fits = True
    pthread_mutex_lock(&pool.lock)
    defaults, resets = block_ref(w.plane.settings, pool.defaults), block_ref(w.plane.settings, pool.resets)
    pthread_mutex_unlock(&pool.lock)
    if block_get(defaults, role, &value):
        if not block_get(resets, role, &other):
            other = text_span("")
        fits = put_setting(w.plane.settings, now, role, other)
    block_unref(w.plane.settings, defaults)
    block_unref(w.plane.settings, resets)
    return fits


cdef bint inquiry_lost(Worker *w, ServerConn *s, const Block *now) noexcept nogil:
    """Whether `now`, at which `s` stands, is without what connect_query has set with rights that its login has not.

    Nobody can set that again, so `s` closes instead of going to anybody. A function of SECURITY DEFINER has such rights.
    """
    cdef Block *fixed
    cdef Span name, value, other
    cdef uint32_t at = 0
    cdef bint lost = False
    if pgpool_load_ptr(<void *>&s.pool.fixed) == NULL:        # as nearly always: no lock for it
        return False
    pthread_mutex_lock(&s.pool.lock)
    fixed = block_ref(w.plane.settings, s.pool.fixed)
    pthread_mutex_unlock(&s.pool.lock)
    while fixed != NULL and at < fixed.len:
        at = block_entry(fixed, at, &name, &value)
        lost |= not (block_get(now, name, &other) and same(value, other))
    block_unref(w.plane.settings, fixed)
    if lost:
        pgpool_store8(&s.seat.close_needed, 1)
    return lost


cdef void inquiry_cleaned(Worker *w, ServerConn *s) noexcept nogil:
    """DISCARD ALL has run: no setting of a client's is left, but those that PostgreSQL has reported."""
    cdef Block *part = tracked_part(w, s.settings)
    prepared_clear(&s.prepared)
    s.dirty = 0
    if part != NULL and not put_first_role(w, s.pool, &part):
        block_unref(w.plane.settings, part)
        part = NULL
    if part == NULL:
        pgpool_store8(&s.seat.close_needed, 1)
        return
    inquiry_lost(w, s, part)
    server_stands(w, s, part)


cdef void inquiry_free(ServerConn *s) noexcept nogil:
    """The end of `s`."""
    free(s.named)
    s.named = NULL
    buf_free(&s.answer)
    leak_free(s)
