"""The ring between threads; see mailbox.pxd."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from pgpool_core.sync.atomic cimport pgpool_cas64, pgpool_load64, pgpool_store64


cdef bint mailbox_init(Mailbox *box) noexcept nogil:
    """An empty ring; False when memory is short."""
    box.cells = <Cell *>calloc(MAILBOX_CELLS, sizeof(Cell))
    box.head = box.tail = 0
    return box.cells != NULL


cdef void mailbox_free(Mailbox *box) noexcept nogil:
    """Free the ring and the data of every mail left in it."""
    cdef Mail mail
    if box.cells == NULL:
        return
    while mailbox_take(box, &mail):
        free(mail.data)
    free(box.cells)
    box.cells = NULL


cdef inline uint64_t round_of(uint64_t at) noexcept nogil:
    """The `turn` of the cell of place `at` while that place is to be filled; one more when it is full."""
    return at - at % MAILBOX_CELLS


cdef bint mailbox_post(Mailbox *box, const Mail *mail) noexcept nogil:
    """Put `mail` in; False when the ring is full, and `mail.data` is still the caller's."""
    cdef uint64_t at = pgpool_load64(&box.tail)
    cdef uint64_t turn
    cdef Cell *cell
    while True:
        cell = &box.cells[at % MAILBOX_CELLS]
        turn = pgpool_load64(&cell.turn)
        if turn == round_of(at):
            if pgpool_cas64(&box.tail, at, at + 1):
                break
            at = pgpool_load64(&box.tail)
        elif turn < round_of(at):
            return False
        else:
            at = pgpool_load64(&box.tail)
    cell.mail = mail[0]
    pgpool_store64(&cell.turn, round_of(at) + 1)
    return True


cdef bint mailbox_take(Mailbox *box, Mail *mail) noexcept nogil:
    """Take the oldest mail out; False when there is none. One thread only."""
    cdef uint64_t at = box.head
    cdef Cell *cell = &box.cells[at % MAILBOX_CELLS]
    if pgpool_load64(&cell.turn) != round_of(at) + 1:
        return False
    mail[0] = cell.mail
    box.head = at + 1
    pgpool_store64(&cell.turn, round_of(at) + MAILBOX_CELLS)
    return True
