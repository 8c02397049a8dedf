"""The records of the data plane: connections, workers, the plane itself. No code, so that every part may know them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pgpool_core.auth.cancel_key cimport CancelKeys
from pgpool_core.auth.client_login cimport ClientLogin
from pgpool_core.auth.credentials cimport Credentials
from pgpool_core.auth.startup cimport Startup
from pgpool_core.auth.strikes cimport Strikes
from pgpool_core.engine.buf cimport Buf, Spares
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.mailbox cimport Mailbox
from pgpool_core.engine.routes cimport Routes
from pgpool_core.engine.sends cimport Sends
from pgpool_core.engine.slots cimport SlotHead, Slots
from pgpool_core.engine.sys cimport pgpool_peer
from pgpool_core.engine.terms cimport PATIENCES, Terms, TermsTable
from pgpool_core.engine.timers cimport Timer, Timers
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.pool cimport Pool, PoolSet
from pgpool_core.pool.server cimport Server
from pgpool_core.session.effects cimport Effects
from pgpool_core.session.outcome cimport OUTCOME_TEXT_MAX, Outcome
from pgpool_core.session.regulars cimport Regular
from pgpool_core.session.known cimport KnownTexts
from pgpool_core.session.probe cimport SettingNames
from pgpool_core.session.settings cimport Block, Settings
from pgpool_core.session.sqlscan cimport SqlScan
from pgpool_core.statements.meaning cimport CHANGE_LEN
from pgpool_core.statements.names cimport Names
from pgpool_core.statements.outgoing cimport Outgoing
from pgpool_core.statements.owed cimport Owed
from pgpool_core.statements.prepared cimport Prepared
from pgpool_core.statements.text cimport Texts
from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.tls.context cimport TlsContext
from pgpool_core.tls.session cimport TLS_INFO_MAX, TlsSession
from pgpool_core.wire.expect cimport Expect
from pgpool_core.wire.scan cimport Cursor


cdef enum:
    RECV_SIZE = 65536             # bytes received at once
    PACKET = 4096                 # PgBouncer's pkt_buf, in which sbuf_loopcnt counts
    HEADROOM = 8192               # room in front of them, for bytes held back from the last time
    HOLD_MAX = 4096               # a server message that we read is held back until whole when it is no longer than this
    STASH_MAX = 65536             # a client without a server keeps so much of a message; a longer one starts to stream
    SCRATCH_SIZE = 65536
    SECRET_SIZE = RECV_SIZE + HEADROOM       # plaintext that is encrypted at once
    CIPHER_SIZE = SECRET_SIZE + 2048         # what comes of it
    MAX_LISTENERS = 64
    MAX_NETWORKS = 64             # of proxy_protocol_networks
    BEGIN_MAX = 64                # a longer BEGIN is not sent again
    MAX_SAYINGS = 8               # a power of two

    KIND_CLIENT = 1
    KIND_SERVER = 2
    KIND_LISTENER = 3
    KIND_WAKE = 4

    SECRETS = 256                 # random numbers that a worker makes at a time

    AGAIN_NOT = 0
    AGAIN_NEXT = 1                # on the list of those to be read next turn
    AGAIN_CROWD = 2               # among those who have a share of a turn

    HUP_NONE = 0
    HUP_THERE = 1                 # the other side has closed, as its socket says
    HUP_HERE = 2                  # a send failed: its socket may be as well as ever, and says nothing

    STREAM_NONE = 0               # told of by the poll set when there is something, then received from
    STREAM_SOON = 1               # the same; io_uring is to receive from it, from the next turn on
    STREAM_ON = 2                 # io_uring receives from it, into buffers of its own
    STREAM_ENDING = 3             # io_uring has been told to stop; what it has received until then is still to come

    CL_LOGIN = 0
    CL_IDLE = 1                   # logged in, holds no server
    CL_WAITING = 2                # in the queue of its pool
    CL_ACTIVE = 3                 # linked
    CL_CONSOLE = 4                # talks to the console, never to a server
    CL_LINGER = 5                 # has been sent its last message; we wait for it to hang up
    CL_GONE = 6                   # its socket is closed, a grant is still on its way

    LG_STARTUP = 0
    LG_POLICY = 1                 # control has been asked
    LG_AUTH = 2
    LG_WELCOME = 3                # authenticated; waits for the greeting of the pool's first server
    LG_DEDICATED = 4              # authenticated; waits for a server of its own (replication)
    LG_CANCEL = 5                 # no login: its cancel request is under way, and it is closed when that is over
    LG_AGAIN = 6                  # the password was wrong: control looks whether the secret has changed
    LG_FORWARDED = 7              # a PROXY header comes first
    LG_TURN = 8                   # waits for its turn (max_logins)
    LG_HELD = 9                   # has failed, and is told later (auth_failure_delay)
    LG_PASSED = 11                # authenticated; control makes the pool, which nobody has logged in to before
    LG_ELSEWHERE = 10             # control has its password checked (LDAP; SCRAM secrets of many rounds)

    TURN_NONE = 0
    TURN_WAITS = 1
    TURN_HAS = 2                  # one of `logins` of its worker
    TURN_OVER = 3                 # let in: it waits for a greeting

    CHORE_NONE = 0
    CHORE_SETTINGS = 1            # replays the client's settings in front of its query
    CHORE_CHECK = 2               # server_check_query
    CHORE_ROLLBACK = 3            # ends the transaction of a client that has left
    CHORE_RESET = 4               # server_reset_query
    CHORE_PROBE = 5               # asks what a client has left in the session
    CHORE_CLEAN = 6               # DISCARD ALL, behind a client whose session state was not replayed
    CHORE_LEAK = 7                # asks whether anything is left that ought not to be (leak_check)
    CHORE_BACK = 9                # sets what a text has given up to what its client began with (back)
    CHORE_DOUBT = 10              # asks for a word, to know that all before it is answered (doubt)
    CHORE_BEGIN = 8               # begins a client's transaction anew, in which nothing has run (redo)

    SESSION_OFF = 0               # session_state
    SESSION_AUTO = 1
    SESSION_PIN = 2
    SESSION_REFUSE = 3
    SESSION_WARN = 4              # as off, and clients are warned

    PIN_SAID = 1                  # why a client keeps its server: session_state = pin
    PIN_PREPARED = 2              # SQL's PREPARE
    PIN_CURSOR = 4                # WITH HOLD
    PIN_LISTEN = 8
    PIN_TEMPORARY = 16
    PIN_LOCK = 32                 # advisory
    PIN_LOAD = 64
    PIN_UNKNOWN = 128             # the probe failed
    PIN_UNNAMED = 256             # an unnamed statement that has been parsed and not been used yet
    PIN_STATEMENT = 512           # a named statement that is too long to be kept

    CHANNEL_ASKED = 0             # control has been asked to listen
    CHANNEL_LIVE = 1              # it does
    CHANNEL_LOST = 2              # it did; its connection is being replaced

    SERVER_ADOPT = 1              # notes to the worker of a server, one bit each
    SERVER_CLOSE = 2
    SERVER_CANCEL_DONE = 4
    SERVER_RETIRE = 8             # its client is sent away: at once from a dedicated one, else when it is idle

    LOAN_ASK = 1                  # orders to the worker of a loan, one bit each
    LOAN_LEAVE = 2                # nobody waits any more; nothing where the server has been lent already
    LOAN_RETURN = 4               # the server comes back; control does not touch the loan any more
    LOAN_FORGET = 8               # the answer to LOAN_ENDED: nor does anybody else
    LOAN_LENT = 1                 # news for control about a loan, one bit each
    LOAN_ENDED = 2                # there will be no server, or it has been taken away

    RETURNED_BROKEN = 1           # nobody knows what it will say next
    RETURNED_BUSY = 2             # besides, it may still be at work
    RETURNED_DIRTY = 4            # something may be left in its session
    RETURNED_FUNCTIONS = 8        # functions may have been changed
    RETURNED_SPENT = 16           # nothing takes away what has been left: it is to be closed

    SUSPEND_END = 0               # read again
    SUSPEND_BEGIN = 1             # read nobody who is not in the middle of something; tell how many are
    SUSPEND_DROP = 2              # end those who still are

    LOOKS_UP_NOT = 0              # no secret comes from auth_query
    LOOKS_UP_NEW = 1              # what is known will do
    LOOKS_UP_EACH = 2             # for every login

    POLICY_RETRY = 0
    POLICY_CONSOLE_ADMIN = 1
    POLICY_CONSOLE_STATS = 2
    POLICY_CONSOLE_TRUSTED = 3
    POLICY_REFUSE = 4
    POLICY_REFUSE_LATE = 5
    POLICY_WRONG = 6              # in LG_ELSEWHERE: the password is


cdef struct Conn:                 # what both ends have in common; the first member of either
    SlotHead head
    int fd                        # owned; -1 when closed
    uint8_t kind                  # KIND_CLIENT or KIND_SERVER
    uint8_t paused                # not to be read: its peer cannot take more, or nobody has asked for it
    uint8_t hup                   # HUP_*: read on until there is nothing left
    uint8_t doomed                # on the list of those that end with this turn
    uint8_t again                 # AGAIN_*: whether it is to be read without being reported
    uint8_t writing               # waits until its socket takes more
    uint8_t full_read             # the last receive filled the buffer: there may be more
    uint8_t missed                # something was reported while it was paused
    uint8_t stream                # STREAM_*
    uint8_t calm                  # short receives in a row, up to a few
    uint16_t queued               # place of its send among those of this turn, + 1; 0 = none
    Conn *again_next
    Conn *doomed_next
    Buf out                       # to be sent; with `tls` it is encrypted already
    Buf early                     # received while nothing was to be read: in front of what the socket has
    Buf held                      # looked at, not yet passed on
    Timer timer
    TlsSession *tls               # owned; NULL: what is sent and received is plain
    const char *reason            # why it is doomed: text for the log and the other end; static


cdef struct Caller:               # the user's name is behind it, and then the database that it asked for; each ends with a zero byte
    char *asked                   # the latter; both are empty where nobody has said them
    char *told                    # owned: the error that ends it; else NULL, and `conn.reason` is why


cdef struct LoginRecord:          # lives from accept to the greeting
    Buf input                     # what has come and is not yet used
    Buf startup                   # the startup packet, kept whole
    Buf late_error                # sent after authentication has succeeded
    ClientLogin auth
    uint8_t phase                 # LG_*
    uint8_t ssl_asked
    uint8_t direct_tls            # the first byte began TLS: the two have to agree on our protocol
    uint8_t asked                 # how often control had to be asked again
    uint8_t console               # POLICY_CONSOLE_* + 1, 0 = no
    uint8_t counted               # among logins_waiting of its pool
    uint8_t method                # that let it in: AUTH_* + 1, 0 = none was needed
    uint8_t told                  # AUTH_* + 1 that control has said it is to use, 0 = as all
    uint8_t listed                # its secret is of auth_file, which is not looked up again
    uint8_t again                 # has been looked up again
    uint8_t passed                # how often control has been told so, for its pool was not known
    Buf answer                    # its PasswordMessage, while it may be looked up again, or is to be checked elsewhere; secret
    uint64_t started_us
    int failed                    # LG_HELD: what login_password has said
    uint8_t turn                  # TURN_*
    ClientConn *turn_of           # whose login this is
    LoginRecord *turn_next        # among those of its worker that wait, that have a turn, or that wait for a greeting
    LoginRecord *turn_prev
    uint64_t turn_us              # since when it has
    Startup packet                # what `startup` says; borrows from it


cdef struct Logins:               # of one worker, in order
    LoginRecord *first
    LoginRecord *last


cdef struct PoolRecord:           # the engine's side of a Pool; owned by the plane, never freed before it
    Pool *pool
    pthread_mutex_t lock          # guards the texts below
    Buf database                  # name; never changes
    Buf user
    Buf reset_query
    Buf check_query
    Buf welcome                   # name, zero, value, zero ...: what clients are told at login
    uint32_t retold               # how often what greetings are made of has changed; atomic
    uint8_t welcome_old           # servers may report something else by now: told only while those that have reported it are in use
    Block *defaults               # the tracked ones among them, and what else servers begin with (connect_query, a role by default)
    Block *resets                 # what RESET makes of `defaults`: the same, but for what connect_query has set
    Block *fixed                  # what of `defaults` the login cannot set itself, with its values; NULL, as can be seen without the lock: nothing
    Buf error                     # ErrorResponse for clients that come while no server can be had
    Buf first_error               # the same for those that waited when that was found out
    uint64_t error_until_us
    uint8_t parked                # not shown while it has no clients and no servers; atomic
    uint8_t reset_always
    uint8_t reset_is_discard      # the reset query is DISCARD ALL
    uint8_t session_state         # SESSION_*
    uint32_t max_prepared         # named statements kept on a server; 0 = they are not tracked
    uint32_t max_pinned           # 0 = any number
    uint8_t reads_sequences       # some client has used currval or lastval; atomic
    uint32_t pinned               # clients that keep their server; atomic
    uint8_t pin_notice            # clients are told that they keep their server
    uint32_t functions            # atomic: which of the plane's `marks`, from 1; 0 = functions are not looked at
    uint32_t leak_every           # leak_check: servers are asked at every so-manieth return; 0 = never
    Buf connect_query             # what servers begin with, for leak_check; under `lock`
    uint64_t[PATIENCES] patience  # timeouts of its clients; atomic


cdef struct Channel:              # a name that clients of one worker listen to in one pool; owned by the worker's table
    Channel *next                 # in its bucket
    Subscription *first           # of clients of this worker
    uint64_t token                # of the question to control that is not answered yet
    uint32_t pool                 # its id
    uint32_t clients
    uint32_t hash
    uint8_t state                 # CHANNEL_*
    uint8_t len
    uint8_t name[63]


cdef struct Subscription:         # one client and one channel; owned by both, freed with `own` of the client
    Subscription *prev            # of the channel
    Subscription *next
    Subscription *own             # the next one of the client
    Channel *channel
    ClientConn *client
    uint8_t waits                 # the LISTEN is not answered yet


cdef struct Listens:              # the channels of a client that no server knows of; owned by it
    Subscription *own
    uint32_t count
    Buf queue                     # NotificationResponses that wait for the end of its transaction
    Buf answer                    # to the LISTEN that waits
    ClientConn *answer_next       # of those who are told
    uint64_t noticed              # when it was last told that it may have missed something
    Buf ending                    # what UNLISTENs of its transaction name: a byte of length and the name
    uint32_t coming               # channels that it had in another process, and that control is yet to listen to; it is held meanwhile
    uint8_t arriving              # it is held for that
    uint8_t ending_all            # UNLISTEN *, DISCARD ALL
    uint8_t undone                # something in the transaction has failed or been rolled back since


cdef struct Saying:               # a text that notifies
    uint64_t client               # by handle; 0 = none
    uint64_t until_us             # when its notifications have all been heard; 0: nobody else has notified since
    uint32_t channel              # a number for what the text says plainly; 0: it does not
    uint32_t payload


cdef struct Notifier:             # whose doing the last notifications of a backend are
    Saying[MAX_SAYINGS] said      # a ring; under the pool's lock
    uint32_t sayings              # ever written; its worker's
    uint64_t lost_us              # when one was overwritten before its time was over; under the pool's lock
    uint64_t may                  # the last client whose text may have notified, or has; atomic
    uint64_t other_us             # when somebody else's last might have; 0 = never; atomic


cdef struct Loan:                 # a server that the program around us borrows, or waits for; see loan.pxd
    Loan *prev                    # of all loans; under the plane's `loan_lock`
    Loan *next
    Loan *orders_next
    Loan *news_next
    Loan *due_next
    uint32_t orders               # LOAN_*, atomic; not 0: it is on its worker's stack of orders
    uint32_t news                 # LOAN_*, atomic; not 0: it is on control's stack of news
    uint64_t token                # control's name for it; never changes, as the next three
    uint32_t worker
    PoolRecord *pool
    Buf startup                   # the packet that a client would have sent
    ClientConn *client            # the worker's; NULL when it has ended
    ServerConn *seized            # the worker's: taken away, in SV_CLOSING, until control has let go of it too; NULL
    uint8_t due                   # the worker's: not 0: on its list of those whose server is to be handed over
    uint8_t told                  # the worker's: it has been
    uint8_t waited                # there was none at once
    int fd                        # owned: another descriptor of the server's socket, until control takes it; -1
    uint64_t server               # with LOAN_LENT: what control is to know of the server, its id first
    uint32_t backend_pid
    uint32_t forgotten            # how often it has forgotten its named statements
    uint8_t family_unix
    uint8_t key_len
    uint8_t backend_key[256]
    char host[256]
    uint16_t port
    TlsSession *tls               # owned: of the server, on its way to the borrower or back; else NULL
    Buf unread
    Buf message                   # with LOAN_ENDED: an ErrorResponse, or nothing
    uint8_t returned              # with LOAN_RETURN: RETURNED_*
    uint8_t tx_status
    uint64_t received             # bytes from the borrower, and to it
    uint64_t sent
    Buf queries                   # how long each took: 8 bytes, microseconds
    Buf xacts
    Buf parameters                # settings that the server has reported: name, zero, value, zero ...


cdef enum:                        # `is_superuser`, which PostgreSQL reports and nobody can set
    RIGHTS_UNKNOWN = 0
    RIGHTS_PLAIN = 1
    RIGHTS_SUPERUSER = 2


cdef struct ClientConn:
    Conn conn
    Client seat
    Cursor cur
    PoolRecord *pool              # borrowed; NULL until routed, and for the console
    Block *settings               # held
    Block *start                  # held: what it began with, which RESET goes back to
    LoginRecord *login            # owned; NULL after login
    Caller *caller                # owned: who it says it is, while `pool` and `terms` do not tell; NULL while it idles
    Terms *terms                  # held: of its user; NULL until routed, and for the console
    Listens *listens              # owned; NULL until it listens without a server
    Loan *loan                    # it is no client but a borrower, and has no socket; else NULL
    uint64_t id
    uint64_t connect_us
    uint64_t request_us
    uint64_t idle_us              # when it last had a server, or sent something
    Timer watch                   # TIMER_PATIENCE
    uint32_t secret               # of its cancel key
    uint8_t cancel_key[8]         # `moved`: the key that it has, of the process which it has logged in to
    uint32_t scanned              # bytes of `held` known to hold no message that asks for an answer
    Names *names                  # owned: its named statements; NULL until the first
    uint8_t unnamed_fresh         # an unnamed statement of its own is at its server, not bound yet: unnamed_mark; else 0
    uint8_t unnamed_here          # one has been parsed since it got this server
    uint8_t awaiting              # its next message waits for answers to those before
    uint8_t pin_told              # it has been, or is about to be, told of a reason why it keeps its server
    uint32_t unnamed_flags        # SQL_* of its last unnamed Parse, where they matter
    uint32_t parse_flags          # of its last Parse
    uint32_t parse_hidden         # of its last Parse: what the functions that it calls may do
    uint16_t warned               # kinds of state that session_state = warn has warned of
    uint16_t warnings_due         # those that the client has not been sent yet
    uint16_t pins                 # PIN_*: why it keeps its server between transactions
    uint16_t pin_due              # those that the client has not been sent yet
    uint64_t pinned_us            # since when
    uint64_t pin_cause            # fingerprint of the text that did it
    pgpool_peer peer
    uint8_t state                 # CL_*
    uint8_t leaving               # has sent Terminate: ends when its answers are there
    uint8_t holding               # its bytes wait: until its settings have been tried, or its LISTEN is answered
    uint8_t skip_to_sync          # a queued group was cancelled, or its server does not skip by itself: drop messages up to the Sync
    uint8_t dropping              # the rest of the message at hand is dropped, too
    uint8_t is_admin
    uint8_t busy                  # console: a message is with control
    uint8_t console               # control keeps a session for it
    uint8_t counted               # among n_clients of the plane
    uint8_t replication           # REPLICATION_*: it has, or waits for, a server of its own
    uint8_t moved                 # it has come from another process
    uint8_t rights                # RIGHTS_*: what it has been told of its role


cdef struct LeakWatch:            # of a server whose pool has leak_check
    uint32_t releases             # since it was asked last
    uint8_t due                   # it is to be asked before it goes to anybody else
    uint8_t begun                 # `began` is known
    uint64_t client               # who had it last, or who last sent a text that may leave something
    uint64_t cause                # fingerprint of that text; 0 = there was none
    char application_name[64]     # of that client
    SettingNames names            # settings that the texts since have mentioned
    Buf began                     # the answer to the same question before any client; owned


cdef struct LeakRecord:           # data of MAIL_LEAK; owned by the mail
    PoolRecord *pool
    uint64_t server               # ids
    uint64_t client
    uint64_t cause
    uint32_t backend_pid
    uint8_t kind                  # FOUND_*
    char name[64]                 # of a setting; else empty
    char application_name[64]


cdef struct ServerConn:
    Conn conn
    Server seat
    Cursor cur
    Expect expect
    PoolRecord *pool
    Block *settings               # as it stands now; held
    Block *wanted                 # held: how it stands when the replay under way has been answered
    Block *begun                  # held: what it reported at login
    Block *back                   # held: what a text gives up that its client began with; NULL but while that is forwarded
    uint32_t gave_up              # with WENT_BACK_ONE: hash of the setting's name
    ServerConn *note_next
    ServerConn *freed_next
    uint32_t notes                # SERVER_*, atomic; not 0: it is on a worker's stack of notes. Changes under server_lock
    uint32_t cancels              # cancel requests under way; atomic
    uint32_t cancel_missed        # one of them did not fit into control's ring; atomic
    uint64_t id
    uint64_t adopted_us
    uint64_t xact_start_us
    uint64_t query_start_us
    uint64_t asked_us             # when its client asked for it; 0 once the first query is answered
    uint64_t group_us             # when the first message of `open_group` came
    uint64_t ready_us             # of its last ReadyForQuery with nothing owed
    uint64_t drain_until_us       # TIMER_DRAIN, TIMER_CLOSE: when patience with it ends
    uint64_t request_us
    uint32_t backend_pid
    uint8_t key_len
    uint8_t backend_key[256]
    char *host                    # owned
    uint16_t port
    uint8_t family_unix
    uint8_t tx_status             # of its last ReadyForQuery
    uint8_t rights                # RIGHTS_*: what it has reported of the role that it stands at
    uint8_t open_group            # extended messages since the last Sync
    uint8_t ending                # its worker takes it apart; written under the pool's lock
    uint8_t query_in_group        # its client has sent a Query while there were
    uint8_t in_doubt              # DOUBT_*: nobody knows what it will answer: its client keeps it, and it is closed then
    uint64_t doubt_word           # of the question that may settle it
    uint8_t run                   # RUN_*: its client's last messages, as far as they may belong to a COPY
    uint8_t copy_doubt            # COPY_*: nobody knows which Syncs of its client it will answer; nothing is forwarded meanwhile
    uint8_t ready_kept            # status of a ReadyForQuery that is its client's or ours: the next message tells; 0 = none
    uint8_t chore                 # CHORE_*
    uint8_t chore_failed
    uint8_t chore_alone           # the replay has nothing of its client's behind it
    uint8_t chore_again           # it was cancelled, so many times in a row, and is sent once more
    uint8_t swallowing            # the rest of the current message is not the client's
    uint8_t error_last            # the last message forwarded was an ErrorResponse
    uint8_t was_reset
    Prepared prepared             # named statements that it has
    Owed owed                     # answers to Parse and Close that it owes
    Buf group                     # the one under way as its client wrote it, while it may have to be sent again
    uint8_t redo                  # REDO_*
    uint8_t begin_len             # of `begin`, while nothing has been sent behind it; 0 = none
    uint8_t began_len             # the same where it is in front of the group
    uint8_t begin[BEGIN_MAX]      # the last Query that is a BEGIN
    uint64_t last_client          # id of who has, or had, it last
    uint8_t foreign               # somebody else had it before
    uint8_t sequences_due         # what others have left for currval and lastval is to be forgotten
    uint64_t retag                # group whose CommandComplete is to say DEALLOCATE; 0 = none
    uint8_t database_ddl          # control lets servers go for a text, until its transaction is over
    uint8_t function_ddl          # DDL_*: a text may be changing functions, or tables
    uint8_t dirty                 # a client has left state that nothing but DISCARD ALL takes away
    uint8_t probed_parts          # PROBE_* of the question under way
    uint8_t risked                # it was sent while a cancel request was under way, which may hit it
    uint32_t suspect              # SQL_*: what texts since the last probe may have left
    uint32_t probing              # the same of the texts before it, while it is under way
    uint32_t left_pins            # PIN_* of the client that has left while it was
    uint8_t erred                 # an ErrorResponse has come since the last probe, or since its client got it
    uint8_t sayings               # 0: nothing suspicious has been said; 1: `said`, alone; 2: more, or something else
    uint8_t learns                # the probe under way tells what `learnt` has done to `base`
    uint8_t said_len
    uint8_t learnt_len
    uint8_t said[OUTCOME_TEXT_MAX]
    uint8_t learnt[OUTCOME_TEXT_MAX]
    Block *base                   # held while `learns`
    uint64_t cause                # fingerprint of the first of them
    SettingNames *named           # owned; NULL until a text names a setting
    Buf answer                    # to the probe, as it comes
    LeakWatch *leak               # owned; NULL without leak_check
    Notifier notifier
    uint8_t lent                  # its client is a borrower, who reads and writes the socket: it is in no poll set
    uint8_t canceling             # its orphaned query is to be cancelled
    uint8_t cancel_due            # a cancel request for what its client has asked waits until ours is answered
    uint64_t canceller            # of that one: who is told; 0 = nobody
    uint8_t gone                  # closed and uncounted; its slot waits for a note to be read. Under server_lock
    char tls_info[TLS_INFO_MAX]   # of `conn.tls`, as it was when control handed it over; empty without
    uint8_t replication           # REPLICATION_*: opened as such, for one client
    Buf greeting                  # of a dedicated one, until its client is greeted: name, zero, value, zero ...
    uint64_t unsettled            # tells its client's last text after which others may mean something else; 0 = none (meanings)
    uint8_t changing_len          # of `changing`
    uint8_t changing[CHANGE_LEN]  # tables that texts of its transaction create, alter or drop: their names, each with its zero


cdef struct Upcalls:              # what an I/O back end tells the engine
    int (*bytes)(Worker *, Conn *, uint8_t *, size_t) noexcept nogil   # takes all; nonzero: stop reading this connection
    void (*closed)(Worker *, Conn *, int) noexcept nogil               # end of stream, or the errno; EAGAIN: nothing is sent to it any more
    void (*hangup)(Worker *, Conn *) noexcept nogil                    # the peer has closed a paused connection
    void (*accept)(Worker *, uint32_t) noexcept nogil                  # listener by index
    void (*woken)(Worker *) noexcept nogil
    void (*blocked)(Worker *, Conn *) noexcept nogil                  # a send said to be done was not: the rest is in `out`


cdef struct Io:                   # an I/O back end
    bint (*start)(Worker *) noexcept nogil               # before its thread runs
    void (*begin)(Worker *) noexcept nogil               # in its thread, before the first turn
    void (*leave)(Worker *) noexcept nogil               # in its thread, after the last: everything has been sent, nothing is received
    void (*stop)(Worker *) noexcept nogil                # after its thread has ended, or without one
    bint (*add)(Worker *, Conn *) noexcept nogil         # watch it; bytes already there are reported too
    void (*remove)(Worker *, Conn *) noexcept nogil      # forget it; `Worker` is the one that watches, any thread may call
    bint (*let_go)(Worker *, Conn *) noexcept nogil      # as remove, and nothing gets lost; False: bytes are under way, ask again next turn
    void (*rearm)(Worker *, Conn *) noexcept nogil       # report again what is there
    void (*want_write)(Worker *, Conn *, bint) noexcept nogil
    void (*pump)(Worker *, Conn *) noexcept nogil        # read now
    void (*listen)(Worker *, int, uint32_t) noexcept nogil
    void (*unlisten)(Worker *, int) noexcept nogil
    bint (*quiet)(Worker *, Conn *) noexcept nogil       # nothing is being received from it any more; False: soon, ask again
    void (*turn)(Worker *, int) noexcept nogil           # wait up to so many ms (-1 for ever), report what has happened


cdef struct Network:
    uint8_t family                # 4, 6, or 1: the unix socket
    uint8_t bits                  # of the address that count
    uint8_t addr[16]


cdef struct Listener:
    int fd                        # borrowed
    uint32_t watchers             # atomic: workers that have not let go of it
    uint16_t port
    uint8_t is_unix
    uint8_t live
    uint8_t late                  # it was open before its options were set: who has come by then has not got them


cdef struct Crowd:                # who waits for a share of a turn
    uint64_t *handles             # owned; a ring
    uint32_t room
    uint32_t head                 # the place of the first
    uint32_t n



cdef struct Worker:
    Plane *plane
    const Io *io
    const Upcalls *up
    Sends *sends                  # owned; those of this turn that wait for its end
    uint8_t puts_off              # sends do; else what is sent is sent at once
    void *uring                   # owned, what io_uring.pyx keeps; NULL with epoll
    uint32_t index
    int poll_fd
    int ring_fd                   # of `uring`; -1 without
    uint32_t ring_broken          # atomic; it has been given up: epoll does everything from then on
    int wake_fd
    int spare_fd                  # given up for a moment when descriptors run out
    uint32_t[SECRETS] secrets     # random, for the cancel keys of clients to come
    uint32_t secrets_left
    uint32_t accept_streak        # how often in a row there were as many at a listener as were taken; STREAK_MOST at most
    uint32_t crowd_taken          # of those with a share, how many this turn has gone on with
    uint8_t accepts_left          # there may be more clients at a listener than were taken in this turn
    uint32_t signalled            # atomic: wake_fd has been written
    uint32_t stop                 # atomic
    uint64_t now_us
    uint8_t *buf                  # HEADROOM + RECV_SIZE
    Spares spares                 # for `held`
    Effects **effects             # by mark of the plane, owned; NULL = nothing is known
    Outcome *outcomes             # what short texts have done to settings
    Regular *regulars             # owned; greetings of clients that begin as others have
    SqlScan scan                  # of the text looked at last
    KnownTexts *known             # owned; texts that come again and again
    Outgoing outgoing             # for the message being renamed
    uint8_t *mix                  # SCRATCH_SIZE: what goes to a server in one send, made of several pieces
    uint32_t mixed                # bytes of it in use; none outside `relay`
    uint8_t *scratch              # SCRATCH_SIZE, for messages being built
    uint8_t *cipher               # CIPHER_SIZE: what has come encrypted, or has just been; no longer than a call
    Slots clients
    Crowd crowd
    Conn *again_head
    Conn *again_tail
    Conn *doomed
    ServerConn *freed             # go back to their pools when this turn's events have been handled
    Timers timers
    Client *granted               # stack, pushed by any worker
    ServerConn *notes             # stack, pushed by any thread
    Loan *orders                  # stack, pushed by control
    Loan *due                     # loans whose servers are handed over at the end of this turn
    Mailbox inbox
    Counters **counters           # by pool; allocated at first use
    Counters *spare_counters      # nobody's: where there is no memory for others
    uint32_t n_clients            # atomic reads by others
    uint32_t logins               # those in progress that have a turn; atomic reads by others
    uint32_t logins_waiting       # those that wait for one; the same
    uint64_t logins_queued        # those that have waited, ever; the same
    uint64_t logins_failed        # those that could not prove who they are; the same
    Logins waits_for_turn
    Logins has_turn               # the oldest first
    Logins waits_for_greeting
    uint32_t greetings            # atomic: a pool has a greeting, or none can be had: those look
    uint32_t listening            # listeners watched so far
    uint64_t unlistened           # bits of those that were let go
    uint8_t gives                 # see who can be given to another process, when this turn is over
    uint8_t suspended             # SUSPEND: only those are read who are in the middle of something, and the console
    uint64_t mail_lost            # letters that did not fit
    Channel **channels            # owned; `channel_buckets` lists by hash, NULL while nobody listens
    uint32_t channel_buckets
    uint32_t channel_count
    uint64_t channel_tokens


cdef struct FunctionsMark:        # one database; shared by its pools
    uint32_t changes              # transactions that may have changed its functions; atomic
    uint32_t known                # control has told the workers what it has read; atomic


cdef struct Plane:
    PoolSet *set
    PoolRecord **records          # by pool id
    Worker *workers
    uint32_t n_workers
    uint8_t io_adapts             # io_backend = auto: a worker with little to do is better off without its ring
    pthread_mutex_t server_lock   # guards `servers`
    Slots servers
    pthread_mutex_t loan_lock     # guards `loans`
    Loan *loans                   # all there are
    Loan *news                    # stack, pushed by the workers
    Credentials *credentials
    Strikes strikes               # failed logins by address
    Routes *routes
    TermsTable *terms             # of login users
    Settings *settings
    Texts *texts                  # of named statements
    Mailbox outbox
    int control_fd
    uint32_t signalled            # atomic: control_fd has been written
    uint32_t want                 # atomic: some pool wants a server
    FunctionsMark *marks          # MAX_POOLS
    uint32_t databases_open       # servers whose transaction has a statement about databases; atomic
    uint32_t databases_news       # atomic: none has any more
    uint32_t functions_news       # atomic: some mark has changed
    uint32_t cancels_missed       # atomic: some server has `cancel_missed`
    uint32_t consoles_missed      # atomic: a MAIL_CONSOLE_GONE was lost
    uint64_t last_id
    uint32_t n_clients            # atomic: all that are not on the console
    uint32_t console_logins       # atomic: since the start
    Listener listeners[MAX_LISTENERS]
    uint32_t n_listeners
    uint8_t elsewhere             # atomic: control knows who else may own cancel keys that nobody here has
    uint8_t giving                # atomic: clients and servers that are at rest go to another process
    uint8_t draining              # atomic: clients that hold no server are sent away
    Buf login_notice              # NoticeResponse behind each greeting; under `ignored_lock`
    TlsContext *client_tls        # held: for handshakes that begin; NULL = clients get no TLS. Under `ignored_lock`
    uint8_t tls_required          # who does not come with TLS, or by the unix socket, is sent away; atomic
    uint32_t retold               # the same as that of a pool, of all of them; atomic
    uint8_t *extra                # track_extra_parameters, in the same form; never changes once there
    uint8_t *ignored              # startup parameters to drop: name, zero, ... zero
    pthread_mutex_t ignored_lock
    Network networks[MAX_NETWORKS]  # whose connections begin with a PROXY header; under `ignored_lock`
    uint32_t n_networks           # atomic
    CancelKeys cancel_keys
    # settings, plain numbers: read by the workers without a lock
    uint32_t max_client_conn
    uint32_t max_logins           # of each worker; 0 = any number; atomic
    uint32_t max_packet_size
    uint64_t client_login_timeout_us
    uint64_t auth_failure_delay_us  # 0 = every failure is answered at once
    uint64_t message_stall_timeout_us
    uint64_t drain_timeout_us
    uint64_t query_wait_notify_us # 0 = nobody is told that they wait
    uint32_t tcp_user_timeout     # ms; 0 = as the system has it
    uint32_t tcp_socket_buffer    # bytes; 0 = as the system has it
    uint64_t bytes_a_turn         # of one connection, then the others get their turn; what a receive brings is taken whole
    uint8_t auth_type
    uint8_t looks_up              # LOOKS_UP_*
    uint8_t disable_pqexec
    uint8_t server_fast_close
    uint8_t application_name_add_host
    uint8_t log_connections
    uint8_t log_disconnections
    uint8_t log_pooler_errors
    uint8_t tcp_keepalive
    uint32_t tcp_keepidle
    uint32_t tcp_keepintvl
    uint32_t tcp_keepcnt
    uint8_t tcp_defer_accept      # who is accepted over TCP has sent something


cdef struct LogRecord:            # data of MAIL_LOG; owned by the mail
    uint8_t level                 # 0 debug, 1 info, 2 warning, 3 error
    uint8_t method                # of a login: AUTH_* + 1, 0 = none
    uint8_t replication           # of a login: REPLICATION_*
    uint32_t worker
    uint64_t id
    uint64_t age_us               # 0 = not said
    uint64_t took_us              # 0 = not said
    PoolRecord *pool
    pgpool_peer peer
    char user[128]
    char database[64]
    char tls[TLS_INFO_MAX]        # of a login; empty = none
    char text[256]
