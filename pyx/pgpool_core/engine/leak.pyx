"""Looking for session state that has been left behind; see leak.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pgpool_core.engine.buf cimport Buf, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.conn cimport counters_of, plane_post
from pgpool_core.engine.counters cimport count_add
from pgpool_core.engine.mailbox cimport MAIL_LEAK, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.session.probe cimport *
from pgpool_core.session.settings cimport MAX_NAME_LEN, SETTINGS_OK, block_get, setting_name, setting_tracked
from pgpool_core.sync.atomic cimport pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.span cimport Span, same, text_span


cdef bint leak_begin(ServerConn *s) noexcept nogil:
    """A new server: True when it is to be asked what it begins with. False: its pool has no leak_check."""
    cdef PoolRecord *pool = s.pool
    if pool.leak_every == 0:
        return False
    s.leak = <LeakWatch *>calloc(1, sizeof(LeakWatch))
    if s.leak == NULL:
        return False                              # memory is short: this one goes unwatched
    pthread_mutex_lock(&pool.lock)
    names_find(&s.leak.names, buf_bytes(&pool.connect_query), pool.connect_query.len)
    pthread_mutex_unlock(&pool.lock)
    s.leak.due = 1
    return True


cdef bint leak_count(ServerConn *s, const ClientConn *c) noexcept nogil:
    cdef LeakWatch *watch = s.leak
    if s.pool.leak_every == 0:
        return False                              # switched off since
    if watch.cause == 0 and c != NULL:
        blame(watch, c)
    watch.releases += 1
    if watch.releases >= s.pool.leak_every:
        watch.due = 1
    return watch.due


cdef void blame(LeakWatch *watch, const ClientConn *c) noexcept nogil:
    """If something is left, `c` is named."""
    cdef Span value
    cdef uint32_t n = 0
    watch.client = c.id
    if block_get(c.settings, text_span("application_name"), &value):
        n = value.len if value.len < sizeof(watch.application_name) else sizeof(watch.application_name) - 1
        memcpy(watch.application_name, value.at, n)
    watch.application_name[n] = 0


cdef void leak_text(ServerConn *s, const ClientConn *c, uint64_t cause, const uint8_t *text, size_t n) noexcept nogil:
    """A text, or the values of one, that may leave something behind goes to `s`: the settings it names are asked for.

    Args:
        cause: its fingerprint; 0 = as before.
    """
    if s.leak == NULL:
        return
    if cause:
        s.leak.cause = cause
    blame(s.leak, c)
    names_find(&s.leak.names, text, n)


cdef size_t leak_ask(Worker *w, ServerConn *s) noexcept nogil:
    """Write the question into `w.scratch`, as a Query message; 0 when it does not fit."""
    cdef LeakWatch *watch = s.leak
    cdef uint8_t *sql = w.scratch + SCRATCH_SIZE // 2
    cdef size_t n
    cdef uint8_t parts = PROBE_ALL
    if s.pool.max_prepared == 0:
        parts |= PROBE_PROTOCOL                   # else those are ours
    buf_free(&s.answer)                           # of a probe whose client has left before it was answered
    watch.names.overflow = 0                      # those that fitted are asked for
    n = probe_write(parts, s.settings, &watch.names, sql, SCRATCH_SIZE // 2)
    watch.names.len = watch.names.count = 0
    if n == 0:
        return 0
    return build_query(w.scratch, SCRATCH_SIZE // 2, sql, n)


cdef void leak_answered(Worker *w, ServerConn *s) noexcept nogil:
    """PostgreSQL has said what is left on `s`, which closes when that is too much."""
    cdef LeakWatch *watch = s.leak
    cdef Found found
    cdef size_t at = 0
    cdef uint32_t told = 0
    cdef uint8_t[256] seen                        # by kind: one letter for a table and its types
    cdef int i, r
    watch.due = 0
    watch.releases = 0
    if not watch.begun:
        watch.began = buf_steal(&s.answer)
        watch.begun = 1
        return
    for i in range(256):
        seen[i] = 0
    count_add(&counters_of(w, s.pool).leak_checks, 1)
    while True:
        r = probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found)
        if r != PROBE_ROW:
            break
        if is_known(s, &found):
            continue
        pgpool_store8(&s.seat.close_needed, 1)
        if told == 0:
            count_add(&counters_of(w, s.pool).leaks, 1)
        if told < MAX_LEAKS_TOLD and (not seen[found.kind] or is_setting(&found)):
            seen[found.kind] = 1
            told += 1
            tell(w, s, &found)
    if r != PROBE_END:
        pgpool_store8(&s.seat.close_needed, 1)
    watch.cause = 0
    buf_free(&s.answer)


cdef inline bint is_setting(const Found *found) noexcept nogil:
    return found.kind == FOUND_SETTING or found.kind == FOUND_NAMED


cdef bint is_known(ServerConn *s, const Found *found) noexcept nogil:
    """Whether `s` is known to have this: it began with it, or its settings block has it.

    The block has a setting as it was asked for, which may be another spelling of the value that PostgreSQL tells:
    of settings that are not reported only numbers are compared.
    """
    cdef Found plain = found[0]
    cdef uint8_t *owned
    cdef bint known
    if began_with(&s.leak.began, found):
        return True
    if not is_setting(found):
        return False
    known = found_unescape(&plain, &owned) and is_asked_for(s, &plain)
    free(owned)
    return known


cdef bint is_asked_for(ServerConn *s, const Found *found) noexcept nogil:
    """Whether a setting stands as it may."""
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span name, value, user, canonical
    if found.value.at == NULL or setting_name(found.name, room, &name) != SETTINGS_OK:
        return True                               # no such setting
    if s.settings != NULL and block_get(s.settings, name, &value):
        if found.kind == FOUND_NAMED or setting_tracked(name, &canonical) or (is_number(value) and
                                                                             is_number(found.value)):
            return same(value, found.value)
        return True
    if found.kind == FOUND_SETTING:
        return False
    user.at = buf_bytes(&s.pool.user)
    user.len = s.pool.user.len
    return found.value.len == 0 or (same(name, text_span("role")) and same(found.value, text_span("none"))) \
        or (same(name, text_span("session_authorization")) and same(found.value, user))


cdef bint began_with(Buf *began, const Found *found) noexcept nogil:
    cdef Found row
    cdef size_t at = 0
    while probe_next(buf_bytes(began), began.len, &at, &row) == PROBE_ROW:
        if row.kind == found.kind and same(row.name, found.name) and same(row.value, found.value):
            return True
    return False


cdef bint is_number(Span text) noexcept nogil:
    """Decimal digits only, written as PostgreSQL writes them."""
    cdef uint32_t i
    for i in range(text.len):
        if not 0x30 <= text.at[i] <= 0x39:
            return False
    return text.len == 1 or (text.len > 1 and text.at[0] != 0x30)


cdef void tell(Worker *w, ServerConn *s, const Found *found) noexcept nogil:
    """Let control know; values and names of objects stay here, for they may be data."""
    cdef LeakRecord *record = <LeakRecord *>calloc(1, sizeof(LeakRecord))
    cdef Mail mail
    cdef size_t n
    if record == NULL:
        w.mail_lost += 1
        return
    record.pool = s.pool
    record.server = s.id
    record.backend_pid = s.backend_pid
    record.client = s.leak.client
    record.cause = s.leak.cause
    record.kind = found.kind
    memcpy(record.application_name, s.leak.application_name, sizeof(record.application_name))
    if is_setting(found):
        n = found.name.len if found.name.len < sizeof(record.name) else sizeof(record.name) - 1
        memcpy(record.name, found.name.at, n)
    mail.kind = MAIL_LEAK
    mail.client = mail.server = mail.a = mail.b = 0
    mail.data = record
    mail.len = sizeof(LeakRecord)
    if not plane_post(w, &mail):
        free(record)


cdef void leak_free(ServerConn *s) noexcept nogil:
    """The end of `s`."""
    if s.leak != NULL:
        buf_free(&s.leak.began)
        free(s.leak)
        s.leak = NULL
