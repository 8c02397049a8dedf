"""Mail between the planes: a bounded ring that any thread may fill and one thread empties, without a lock.

After Vyukov's bounded queue: each cell carries a sequence number that tells whose turn it is. A full ring is an answer
(the sender gets False and gives one connection an error), never a stall.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    MAILBOX_CELLS = 4096

    # worker -> control
    MAIL_POLICY = 1               # client asks: where to, and with which secret; b = 1: with the one known the login has failed, 2: it has passed
    MAIL_CONSOLE = 2              # client, server = its id, a = 1 for an admin, b = FE_*, data = body of the message
    MAIL_CANCEL = 3               # server, a = backend pid, b = backend key
    MAIL_SERVER_CLOSED = 4        # server = its id, a = pool, b = age_us, client = address of the reason (static), data = its host, canceller = its port
    MAIL_LOG = 5                  # data = LogRecord
    MAIL_CLIENTS = 6              # a = token, data = array of ClientRow
    MAIL_LEAK = 7                 # data = LeakRecord
    MAIL_LISTEN = 8               # a = pool, b = token, or 0 to listen no more; data = channel
    MAIL_CHANNELS = 9             # a = token, b = how many, data = array of ChannelRow
    MAIL_PEER_CANCEL = 10         # client = peer id, a and b = the halves of the key: to be passed on
    MAIL_CONSOLE_GONE = 11        # a = id of a console client that has left
    MAIL_CONSOLE_CANCEL = 12      # a = id of a console client whose command is to be cancelled
    MAIL_SOCKETS = 13             # a = token, b = how many, data = array of SocketRow; before MAIL_CLIENTS
    MAIL_SUSPENDED = 14           # a = token, b = connections that are in the middle of something
    MAIL_DATABASE = 64            # data = a text that may need a database without connections
    MAIL_PARCEL = 66              # client = its fd + 1, server = its fd + 1 (0 = none), a = pool, data = Parcel
    MAIL_MOVED_GONE = 67          # a = id of a client that had come from another process
    MAIL_POLICY_GONE = 68         # client: it has left, and wants no answer to MAIL_POLICY
    MAIL_CLIENT_KEY = 65          # data = ClientKey, 32 bytes, of a client that has logged in
    # control or worker -> worker
    MAIL_EFFECTS = 14             # a = mark, data = Effects
    MAIL_CANCEL_ELSEWHERE = 15    # a = cancel key of nobody here
    MAIL_ACCEPTED = 16            # a = fd, b = 1 for a unix socket: a client that another worker accepted
    MAIL_VERDICT = 17             # client, a = verdict, and 256 * (AUTH_* + 1) where that is said; data = error
    MAIL_REPLY = 18               # client, data = console reply
    MAIL_FIND_CANCEL = 20         # client = slot, server = the key itself, a = secret, b = which of its bits are known
    MAIL_KICK = 21                # a = client id, data = error
    MAIL_KICK_POOL = 22           # a = pool, data = error
    MAIL_ASK_CLIENTS = 23         # a = token
    MAIL_LISTENERS = 24           # listeners have changed
    MAIL_SUSPEND = 32             # a = token * 4 + SUSPEND_*
    MAIL_LISTENING = 25           # a = pool, client = token, data = channel: control listens to it
    MAIL_LISTEN_FAILED = 26       # a = pool, data = error for those who wait
    MAIL_CHANNELS_LOST = 27       # a = pool
    MAIL_CHANNELS_BACK = 28       # a = pool, data = notice for those who may have missed something
    MAIL_DRAIN = 31               # send clients away that hold no server, as `draining` says
    MAIL_NOTIFY = 29              # a = pool, data = whole NotificationResponses
    MAIL_PATIENCE = 30            # timeouts of clients have changed
    MAIL_CANCEL_DONE = 33         # client: its cancel request is over
    MAIL_GIVE = 34                # give to another process whoever is at rest
    MAIL_ARRIVE = 35              # data = Arrival: a client of another process
    MAIL_CANCEL_MOVED = 36        # a = id of such a client: cancel what it runs


cdef struct Mail:
    uint64_t client               # handle or 0
    uint64_t server               # handle or 0
    uint64_t a
    uint64_t b
    uint64_t canceller            # of a cancel request: who waits until it is over; 0 = nobody
    void *data                    # moves with the mail: the receiver frees it
    uint32_t len
    uint32_t kind                 # MAIL_*
    uint32_t worker               # the sender


cdef struct Cell:
    uint64_t turn                 # zero in a new ring: its memory is touched only as far as there has been mail
    Mail mail


cdef struct Mailbox:
    Cell *cells
    uint64_t[8] pad0
    uint64_t tail                 # next to fill
    uint64_t[8] pad1
    uint64_t head                 # next to empty
    uint64_t[8] pad2


cdef bint mailbox_init(Mailbox *box) noexcept nogil
cdef void mailbox_free(Mailbox *box) noexcept nogil
cdef bint mailbox_post(Mailbox *box, const Mail *mail) noexcept nogil
cdef bint mailbox_take(Mailbox *box, Mail *mail) noexcept nogil
