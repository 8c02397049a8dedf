"""What goes to the server for one Parse, Bind, Describe or Close of a client.

The one entry point for a client's messages. It decides, writes down what it has decided in the client's names, the
server's set and its queue, and says what is to be sent, in this order: the pieces of `Outgoing`, then the client's own
bytes from `skip` on. A verdict other than OUT_PASS and OUT_SEND has changed nothing.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.statements.names cimport Names
from pgpool_core.statements.owed cimport Owed
from pgpool_core.statements.prepared cimport Prepared
from pgpool_core.statements.rewrite cimport PARSE_HEAD_LEN, RENAMED_MAX, SHORT_LEN
from pgpool_core.statements.text cimport Statement, Texts
from pgpool_core.wire.scan cimport Frame
from pgpool_core.wire.span cimport Span


cdef enum:
    OUT_PASS = 0                  # send it as it is, and go on
    OUT_SEND = 1                  # send the pieces, go on `skip` bytes further
    OUT_NEED_MORE = 2             # call again when more of the message has come
    OUT_WAIT = 3                  # hold it until the server has answered more (any answer, or a ReadyForQuery)
    OUT_LOOK = 4                  # a text has to be parsed: call again with `looked`
    OUT_TOO_LONG = -1             # text beyond MAX_TEXT_LEN, name beyond MAX_NAME_LEN: pin the client, see outgoing_pass
    OUT_FULL = -2                 # too many names, too many unanswered messages, or memory is short

    EVICT_MOST = 4                # statements closed for one message; a set beyond its limit shrinks bit by bit
    OUT_HEAD_MAX = (EVICT_MOST + 1) * SHORT_LEN + PARSE_HEAD_LEN + RENAMED_MAX


cdef extern from *:
    """
    #define PGPOOL_SPAN ((uint64_t)1 << 62)
    """
    const uint64_t SPAN "PGPOOL_SPAN"     # bit of every `span`: no epoch of a statement has it


cdef struct Ends:                 # who speaks with whom; borrows everything
    Texts *texts
    Names **names                 # the client's; made when first needed
    Prepared *prepared            # the server's
    Owed *owed                    # the server's
    uint32_t limit                # max_prepared_statements, at least 1
    uint64_t salt                 # what else the meaning of a text depends on, as a number. Like the next, where `looked`
    uint64_t span                 # not 0: nobody knows what it depends on, as long as this number stays the same
    uint8_t looked
    uint8_t no_unnamed            # the server's unnamed statement is not this client's
    uint8_t failed                # the server's last ReadyForQuery said TX_FAILED
    uint8_t pending               # requests in front of this group are unanswered: its transaction may have failed in them


cdef struct Outgoing:             # borrows a statement's text until the next message is planned
    size_t skip                   # bytes of the client's message, header included, that the pieces stand for
    Span pieces[3]
    uint32_t n_pieces
    Statement *statement          # that the message is about; NULL for none of ours
    uint8_t unnamed               # it is about the unnamed statement
    uint32_t parses               # Parses that the server gets, for the counters
    uint32_t ours                 # Parses and Closes among the pieces that the client has not sent
    uint8_t head[OUT_HEAD_MAX]


cdef int outgoing_plan(const Ends *ends, const Frame *frame, const uint8_t *message, size_t have,
                       Outgoing *out) noexcept nogil
cdef int outgoing_pass(const Ends *ends, const Frame *frame) noexcept nogil
