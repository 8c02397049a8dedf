"""The data plane's door; compiled from pyx/pgpool_core/engine/plane.pyx. Every call is made by the control thread.

Names and values are bytes where PostgreSQL has bytes. Times are microseconds on the monotonic clock
(`time.monotonic_ns() // 1000`). Handles of clients and servers are plain numbers: slot index and generation.
"""

from collections.abc import Sequence
from typing import Any

from pgpool_core.tls.face import Context, Session

VERDICT_RETRY: int  # look route and credential up again
VERDICT_CONSOLE_ADMIN: int  # the console, every command; authenticates as usual
VERDICT_CONSOLE_STATS: int  # the console, SHOW only; authenticates as usual
VERDICT_CONSOLE_TRUSTED: int  # the console, every command, no password (same uid on the unix socket)
VERDICT_REFUSE: int  # send `error` at once and close
LISTENER_TAKEN: int  # counted by the shared limits: open it, and call give_listener when it has ended
LISTENER_LATER: int  # a limit is full; another connection makes room for it
LISTENER_NEVER: int  # a limit would leave no connection for queries
VERDICT_REFUSE_LATE: int  # authenticate against credential or mock first, then send `error` and close

class Engine:
    wakeup_fd: int  # eventfd, readable when take_mail() has something; reading it is take_mail's job
    workers: int
    io_refusal: str  # why there is no io_uring where it was wanted; "" otherwise

    def __init__(self, *, workers: int, io_backend: str) -> None:
        """
        Raises:
            OSError: `io_backend` is io_uring and cannot be had, or memory or descriptors run out.
        """
    @property
    def io_backend(self) -> str:
        """What is in use: epoll, also where the system has begun to refuse io_uring, or io_uring."""
    @property
    def connections(self) -> int:
        """How many there have ever been, of clients and servers."""
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def configure(
        self,
        *,
        max_client_conn: int,
        client_login_timeout_us: int,
        auth_type: int,
        max_packet_size: int,
        log_connections: bool,
        log_disconnections: bool,
        log_pooler_errors: bool,
        disable_pqexec: bool = False,
        server_fast_close: bool = False,
        application_name_add_host: bool = False,
        login_notify_message: bytes = b"",
        looks_up: int = 0,  # auth_query: 1 = a login that fails is asked about once more, 2 = every login is asked about
        scram_iterations: int = 0,  # for users who do not exist; 0 = PostgreSQL's default
        tcp_user_timeout: int = 0,  # milliseconds
        tcp_socket_buffer: int = 0,
        packets_a_turn: int = 5,  # sbuf_loopcnt, of 4 KiB; 0 = any number
        max_opening: int,
        ignore_startup_parameters: Sequence[bytes],
        track_extra_parameters: Sequence[bytes] = (),  # of the first call
        tcp_keepalive: bool,
        tcp_keepidle: int,
        tcp_keepintvl: int,
        tcp_keepcnt: int,
        message_stall_timeout_us: int,
        drain_timeout_us: int,
        query_wait_notify_us: int = 0,
        peer_id: int = 0,
        max_logins: int = 0,
        tcp_defer_accept: bool = False,
        auth_failure_delay_us: int = 0,
        proxy_networks: Sequence[tuple[int, int, bytes]] = (),  # family (1 = the unix socket), bits, address
    ) -> None: ...
    def imitate_by(self, key: bytes) -> None:
        """What users who do not exist are made of: 32 bytes, the same for every process that a client may take for this one."""
    def set_client_tls(self, context: Context | None, required: bool) -> None:
        """TLS for clients whose handshake begins from now on; None: there is none. `required`: who comes without is sent away."""
    def add_listener(self, fd: int, *, is_unix: bool, port: int, late: bool = False) -> None:
        """Let every worker accept from `fd`, which stays the caller's.

        Raises:
            OSError: the kernel does not let it be watched.
        """
    def drop_listeners(self) -> None: ...
    def let_go_of_listeners(self, *, tcp_only: bool = False) -> bool:
        """drop_listeners, where another process has the sockets too. True once no worker watches them: then they may be closed."""
    def know_elsewhere(self, known: bool) -> None:
        """Whether cancel keys of nobody here come as letters "cancel_elsewhere"."""
    def find_cancel(self, key: bytes) -> bool:
        """A cancel request, by its eight bytes, that came to another process. False: it is of nobody here."""
    def client_count(self) -> int:
        """How many clients there are, those logging in among them, the console's not."""
    def console_logins(self) -> int:
        """How many clients have logged in to the console since the start."""
    def logins(self) -> tuple[int, int, int, int]:
        """Logins in progress, those that wait for their turn (max_logins); and since the start: how many have had to, how many have failed."""
    def drain(self) -> None:
        """From now on clients that hold no server are sent away (57P01), others when they give theirs back. To be repeated."""
    def add_group(self, limit: int) -> int: ...
    def set_group_limit(self, group: int, limit: int) -> None: ...
    def set_group_clients(self, group: int, limit: int) -> None: ...
    def add_pool(self, database: bytes, user: bytes, *, database_group: int, user_group: int) -> int: ...
    def configure_pool(
        self,
        pool: int,
        *,
        mode: int,
        pool_size: int,
        min_pool_size: int,
        reserve_pool_size: int,
        reserve_pool_timeout_us: int,
        server_check_delay_us: int,
        server_lifetime_us: int,
        server_idle_timeout_us: int,
        reset_query: bytes,
        reset_always: bool,
        check_query: bytes,
        session_state: int,
        max_prepared_statements: int,
        max_pinned: int,
        prewarm: bool,
        round_robin: bool,
        leak_every: int,
        connect_query: bytes,
        pin_notice: bool,
        patience: Sequence[int | None],  # query_wait, query, transaction, idle_transaction, client_idle in us; 0 = none
    ) -> None: ...
    def set_users(  # (name, max_clients, patience); None = as for all, as the pool says
        self, users: Sequence[tuple[bytes, int | None, Sequence[int | None]]], *, max_clients: int
    ) -> None: ...
    def empty_pools(self) -> list[int]: ...
    def park_pool(self, pool: int, parked: bool) -> None: ...
    def add_route(self, database: bytes, user: bytes, pool: int) -> None: ...
    def clear_routes(self) -> None: ...
    def set_credential(
        self,
        user: bytes,
        *,
        plain: bytes | None = None,
        md5: bytes | None = None,
        scram: tuple[int, bytes, bytes, bytes] | None = None,
        database: bytes | None = None,
        asks_key: bool = False,
    ) -> None:
        """What `user` proves a login with; nothing given = the user exists and no password matches.

        `database`: it holds for logins to that one, where there is none that holds for all.
        `asks_key`: the next SCRAM login that succeeds comes with a "client_key" letter.
        """
    def set_nobody(self, user: bytes, database: bytes) -> None:
        """No password is right for logins of `user` to a database: they fail without a question, in the time that others take."""
    def forget_credential(self, user: bytes, database: bytes) -> None: ...
    def clear_credentials(self) -> None: ...
    def answer_policy(self, client: int, verdict: int, error: bytes = b"", *, method: int | None = None) -> bool:
        """`method`: the auth_type of this one login, by number."""
    def plan(self, now_us: int) -> list[tuple[int, int, list[tuple[bytes, bytes]] | None]]:
        """Server connections to open now: (server, pool, startup), counted from here on.

        `startup` is None, or the startup parameters of the replication client that the server is for.
        """
    def adopt_server(
        self,
        server: int,
        fd: int,
        *,
        backend_pid: int,
        backend_key: bytes,
        parameters: Sequence[tuple[bytes, bytes]],
        unread: bytes,
        family_unix: bool,
        host: bytes,
        port: int,
        began: Sequence[tuple[bytes, bytes]] = (),  # settings that it stands at beside `parameters`
        tls: Session | None = None,  # moves to the engine; nothing of it is left to be received or sent
    ) -> int: ...
    def abandon_server(self, server: int, error: bytes = b"") -> None:
        """Give the slot back. The client that the server was for alone is sent `error`; with b"" it goes on waiting."""
    def cancel_over(self, canceller: int) -> None: ...
    def set_welcome(
        self,
        pool: int,
        parameters: Sequence[tuple[bytes, bytes]],
        began: Sequence[tuple[bytes, bytes]] = (),  # further settings that servers, and so clients, begin with
        at_login: Sequence[tuple[bytes, bytes]] | None = None,  # `parameters` before connect_query; None: the same
        fixed: Sequence[bytes] = (),  # names among `began` that the login cannot set itself
    ) -> None: ...
    def forget_welcome(self, pool: int) -> None: ...
    def fail_pool(self, pool: int, first: bytes, error: bytes, until_us: int, since_us: int = 0) -> bool:
        """No server can be had: plan() opens none for the pool before `until_us`. Returns whether the pool has none left.

        Where the pool has no server left, its waiting clients are sent `first` (a whole ErrorResponse) and closed, clients that come
        before `until_us` are sent `error`. Without `first`, who waits goes on waiting, but for those who have come to the queue at
        `since_us` or later: they are sent `error`, and so is who asks for a server before `until_us`; logins wait. Without either
        nobody is told.
        """
    def cancel_done(self, server: int, *, in_doubt: bool = False) -> None: ...
    def sweep(self, now_us: int) -> bool: ...
    def retire_servers(self, pool: int, host: bytes | None = None, *, dedicated: bool = True) -> None: ...
    def servers_to_close(self, pool: int) -> int: ...
    def pause_pool(self, pool: int, on: bool) -> None: ...
    def end_pool(self, pool: int, error: bytes) -> None: ...
    def kick_pool(self, pool: int, error: bytes) -> bool: ...
    def suspend(self, token: int, drop: bool) -> bool:
        """Have workers stand still; each answers with ("suspended", token, worker, connections not at rest yet)."""
    def go_on(self, token: int) -> bool: ...
    def close_pool(self, pool: int, error: bytes) -> None: ...
    def disconnect(self, client_id: int, error: bytes) -> bool: ...
    def reply(self, client: int, data: bytes) -> bool: ...
    def hold_pool(self, pool: int, until_us: int) -> None: ...
    def borrow(self, pool: int, worker: int, startup: bytes) -> int: ...
    def stop_waiting(self, token: int) -> None: ...
    def forget_loan(self, token: int) -> None: ...
    def give_back(
        self,
        token: int,
        *,
        broken: bool,
        busy: bool,
        dirty: bool,
        functions: bool,
        spent: bool,
        tx_status: int,
        received: int,
        sent: int,
        queries: bytes,
        xacts: bytes,
        parameters: bytes,
        tls: Session | None = None,
    ) -> None:
        """What was lent comes back; nothing where it has been taken away.

        `broken`: it is of no more use, `busy`: and may be at work still. `dirty`: it is to be cleaned, `spent`: which is not enough.
        `functions`: some may have changed. `queries`, `xacts`: the time that each has taken, 8 bytes. `parameters`: what the server has
        reported of its settings: name, zero, value, zero, and so on.
        """
    def functions_changed(self, mark: int) -> None: ...
    def reads_sequences(self, pool: int) -> None: ...
    last_text: int  # the highest number that a text of a prepared statement has had
    def count_texts_from(self, number: int) -> None: ...
    def give(self, *, plain: bool = False) -> None: ...
    def keep(self) -> None: ...
    def learn_texts(self, parcel: bytes) -> tuple[bytes | None, bytes]:
        """Returns the user and the cancel key of the client in it; None and b"" where there is none."""
    def forget_texts(self) -> None: ...
    def place_server(self, pool: int, parcel: bytes, *, kept: bool = False) -> int: ...
    def take_server(self, server: int, fd: int, parcel: bytes) -> int: ...
    def take_client(
        self, pool: int, fd: int, parcel: bytes, *, server: int = 0, server_fd: int = -1, stale: bool = False
    ) -> tuple[int, int]:
        """
        Raises:
            BlockingIOError: the worker's ring is full: abandon the server, place it anew, try again.
            ValueError: the parcel is broken, or names what has not been told.
        """
    def cancel_moved(self, client_id: int, worker: int, canceller: int) -> bool: ...
    def watch_functions(self, pool: int, mark: int) -> None: ...  # -1: not
    def function_changes(self, mark: int) -> int: ...
    def tell_functions(self, mark: int, worker: int, effects: bytes) -> bool: ...
    def functions_known(self, mark: int) -> None: ...
    def take_aside(self, database_group: int, user_group: int) -> bool: ...
    def give_aside(self, database_group: int, user_group: int) -> None: ...
    def take_listener(self, pool: int) -> int: ...
    def give_listener(self, pool: int) -> None: ...
    def listening(self, pool: int, worker: int, token: int, channel: bytes) -> bool: ...
    def listen_failed(self, pool: int, worker: int, error: bytes) -> bool: ...
    def channels_lost(self, pool: int, worker: int) -> bool: ...
    def channels_back(self, pool: int, worker: int, notice: bytes) -> bool: ...
    def notify(self, pool: int, worker: int, messages: bytes) -> bool: ...
    def ask_clients(self) -> int: ...
    def servers(self) -> list[dict[str, Any]]: ...
    def memory(self) -> list[tuple[str, int, int, int]]: ...
    def pools(self) -> list[dict[str, Any]]: ...
    def worker_rows(self) -> list[dict[str, Any]]: ...
    def counters(self) -> dict[int, dict[str, Any]]: ...
    def invariants(self) -> list[str]: ...
    def take_mail(self) -> list[tuple[Any, ...]]: ...
    def after_fork_in_child(self) -> None:
        """In a forked child: close every descriptor by number, touch no epoll set, forget the threads that are not there."""
