"""Answers what the workers ask by mail: who may log in where, cancel requests, the console; and writes their log lines.

A letter is a tuple whose first word says what it is about; the list stands at `Mailroom.deliver`. Nothing that a client sent may
stop the pump: whatever goes wrong with a letter costs that one client.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.admin.session import ConsoleSession
from pgpool_core.control import routing
from pgpool_core.control.access import METHOD_NUMBERS, Access, address_of
from pgpool_core.control.arrivals import Arrivals, Parcel
from pgpool_core.control.auth_query import AuthQuery
from pgpool_core.control.cancel import CancelUnanswered, Turns, send_cancel
from pgpool_core.control.channels import Channels, until_taken
from pgpool_core.control.databases import Databases
from pgpool_core.control.functions import Functions
from pgpool_core.control.handing import Handing
from pgpool_core.control.inquiries import Inquiries
from pgpool_core.control.ldap import Ldap
from pgpool_core.control.loans import Lent, Loans
from pgpool_core.control.login_steps import Asking, LoginStep, NobodyAsks
from pgpool_core.control.opener import Opener
from pgpool_core.control.orders import Orders
from pgpool_core.control.peers import Peers
from pgpool_core.control.plain_passwords import PlainPasswords
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.report import Report
from pgpool_core.control.routing import Refusal, ToConsole, ToPool, Verdict, connect_timeout_s
from pgpool_core.errors import InternalError, PgPoolError, PoolClosed, PoolError, error_response
from pgpool_core.policy.facts import Facts, FactWanted
from pgpool_core.policy.hba import Visitor
from pgpool_core.policy.ldap import LdapOptions
from pgpool_core.policy.secrets import Secret

if TYPE_CHECKING:
    from pgpool_core.admin.commands import Console
    from pgpool_core.engine.plane import Engine

CANCELS_AT_ONCE: Final = 64  # connections that carry cancel requests to one place; further ones wait their turn

NO_PHYSICAL: Final = (b"", b"database", b"0", b"f", b"fa", b"fal", b"fals", b"false", b"n", b"no", b"of", b"off")
"""Values of `replication` that mean a database."""
PASSWORD_TYPES: Final = ("plain", "md5", "scram-sha-256")  # values of auth_type with which only a password counts
SCRAM_TYPES: Final = ("scram-sha-256", "hba")  # values of auth_type that may ask for SCRAM of a plain password
COUNTED: Final = (b"Q", b"E")  # console messages that SHOW STATS counts as queries

SHUTTING_DOWN: Final = error_response(PoolClosed("pooler is shutting down"))
INTERNAL_ERROR: Final = error_response(InternalError("internal error"))


@attrs.frozen
class Policy:
    """A login whose route or credential the engine does not know."""

    client: int
    database: bytes
    user: bytes
    is_unix: bool
    peer_uid: int | None  # on the unix socket
    address: str | bytes
    port: int
    startup: Mapping[bytes, bytes] = attrs.field(repr=False)
    again: bool = False  # it has failed with what is known
    certificate: tuple[bytes, ...] | None = None  # names in the client's certificate; None: no TLS
    proof: bytes | None = attrs.field(default=None, repr=False)
    """Its PasswordMessage, which is to be checked here: a password and a zero byte."""
    passed: bool = False  # it has been proved: only its pool is not known


@attrs.frozen
class Cancel:
    """A cancel request to be carried to a server, which stays away from other clients until `cancel_done`."""

    server: int
    pool: int
    backend_pid: int
    backend_key: bytes = attrs.field(repr=False)
    host: str | bytes
    port: int
    canceller: int = 0
    """The connection that the request came on, which closes when it is done with."""
    tls: bool = False
    """The server's connection is encrypted."""


@attrs.define(eq=False)
class ConsoleClient:
    """A client of the console, and what it has running."""

    session: ConsoleSession
    running: trio.CancelScope | None = None


class Mailroom:
    """Reads the engine's mail and sees that every letter is answered."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        opener: Opener,
        report: Report,
        channels: Channels,
        functions: Functions,
        databases: Databases,
        nursery: trio.Nursery,
        console: Console,
        orders: Orders,
        auth_query: AuthQuery,
        inquiries: Inquiries,
        ldap: Ldap,
        access: Callable[[], Access],
        loans: Loans,
        arrivals: Arrivals,
        handing: Handing,
    ) -> None:
        """Begin to work when `pump` runs; answers that take time become tasks of `nursery`."""
        self._engine = engine
        self._pools = pools
        self._opener = opener
        self._report = report
        self._channels = channels
        self._functions = functions
        self._databases = databases
        self._nursery = nursery
        self._console = console
        self.peers = Peers()
        self.elsewhere: Callable[[bytes], Awaitable[None]] | None = None
        """Who else may know what to do with the cancel key of nobody here."""
        self.departures: Callable[[Parcel], None] | None = None
        """Where clients and servers go that the engine gives away."""
        self.arrivals = arrivals
        self.handing = handing
        handing.read = self.read
        self._ended = False
        self._own_uid = os.geteuid()
        self._cancels = Turns(CANCELS_AT_ONCE)
        self._orders = orders
        self._auth_query = auth_query
        self._looked_up = LoginStep("auth_query")
        self._inquiries = inquiries
        self._ldap = ldap
        self._plain = PlainPasswords(pools.keys)
        report.login_steps = (self._looked_up, ldap.step, self._plain.step, *inquiries.steps.values())
        self._access = access
        self._loans = loans
        self._consoles: dict[int, ConsoleClient] = {}  # by the client's id
        self._asking: dict[int, Asking] = {}  # by client

    async def pump(self) -> None:
        """Deliver mail as it comes, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._engine.wakeup_fd)
            self.read()

    def read(self) -> None:
        """Deliver what has come by now."""
        for letter in self._engine.take_mail():
            self._safely(letter)

    def last_words(self) -> None:
        """After the workers have ended: write the log lines that they left."""
        self._ended = True
        for letter in self._engine.take_mail():
            if letter[0] in ("log", "leak", "parcel"):
                self._safely(letter)

    def _safely(self, letter: tuple[Any, ...]) -> None:
        try:
            self.deliver(letter)
        except Exception:
            logs.LOGGER.exception("internal error with a letter about %s", letter[0])

    def deliver(self, letter: tuple[Any, ...]) -> None:
        """Act on one letter."""
        match letter:
            case ("want",):
                self._opener.poke()
            case ("client_key", key):
                self._pools.keys.learn(key)
            case ("policy", *about):
                self._nursery.start_soon(self._answer_login, Policy(*about))
            case ("policy_gone", client):
                if (asking := self._asking.get(client)) is not None:
                    asking.gone = True
            case ("console", client, client_id, kind, body, is_admin):
                self._nursery.start_soon(self._answer_console, client, client_id, kind, body, is_admin)
            case ("console_cancel", client_id):
                if (found := self._consoles.get(client_id)) is not None and found.running is not None:
                    found.running.cancel(reason="a cancel request")
            case ("console_gone", client_id):
                self._nursery.start_soon(self._console_gone, client_id)
            case ("consoles_missed",):
                self._nursery.start_soon(self._look_for_consoles)
            case ("suspended", token, worker, unsettled):
                self._orders.at_rest(token, worker, unsettled)
            case ("sockets", token, rows):
                self._report.sockets_told(token, rows)
            case ("cancel", *about):
                self._nursery.start_soon(self._carry_cancel, Cancel(*about))
            case ("parcel", pool, client_fd, server_fd, data):
                self._depart(Parcel(pool, client_fd, server_fd, data))
            case ("moved_gone", client_id):
                self.arrivals.gone(client_id)
            case ("peer_cancel" | "cancel_elsewhere", *_, key, canceller) if self.arrivals.cancel(key, canceller):
                pass
            case ("peer_cancel", peer, key, canceller):
                self._nursery.start_soon(self._pass_on_cancel, peer, key, canceller)
            case ("cancel_elsewhere", key, canceller):
                self._nursery.start_soon(self._ask_elsewhere, key, canceller)
            case ("cancel_over", canceller):
                self._engine.cancel_over(canceller)
            case ("listen", pool, worker, token, channel):
                self._channels.asked(pool, worker, token, channel)
            case ("database", text):
                self._databases.asked(text)
            case ("database_done",):
                self._databases.done()
            case ("functions",):
                self._functions.changed()
            case ("channels", token, _, rows):
                self._report.channels_told(token, rows)
            case ("lent", token, server, fd, pid, key, host, *rest):
                self._loans.deliver_lent(Lent(token, server, fd, pid, key, _text(host), *rest))
            case ("loan_ended", token, error):
                self._loans.deliver_ended(token, error)
            case ("clients", token, worker, rows):
                self._report.clients_told(token, worker, rows)
            case ("server_closed", server_id, pool, reason, age_us, host, port):
                self._server_closed(server_id, pool, reason, age_us, _text(host), port)
            case ("leak", *about):
                self._report.leak_found(*about)
            case ("log", level, who, what, fields):
                logs.LOGGER.log(_level(level), "%s", logs.line(_text(who), _text(what), fields))
            case _:
                raise InternalError("unknown mail", state={"about": letter[0], "parts": len(letter)})

    def _depart(self, parcel: Parcel) -> None:
        if (to := self.departures or self.handing.to) is not None:
            self._engine.learn_texts(parcel.data)  # so that it can come back
            to(parcel)
        elif (record := self._pools.get(parcel.pool)) is not None and not self._ended:
            self.arrivals.take_back(record, parcel)  # given before the worker heard that there is nobody to take it
        else:
            parcel.close(SHUTTING_DOWN)

    async def _answer_login(self, login: Policy) -> None:
        method: str | LdapOptions | Refusal = ""
        asking = self._asking[login.client] = Asking()
        config = None
        try:
            while config is not self._pools.config:  # a reload that comes in between holds for this login, too
                config = self._pools.config
                method = await self._method(login, asking)
                if isinstance(method, Refusal):
                    verdict, error, method = method.verdict, method.error_response(), ""
                elif login.proof is None or await self._is_right(login, method, asking):
                    verdict, error = await self._decide(
                        login, "ldap" if isinstance(method, LdapOptions) else method, asking
                    )
                else:
                    verdict, error = Verdict.WRONG, b""
        except PoolError as failure:
            verdict, error = Verdict.REFUSE, error_response(failure)
        except NobodyAsks:
            return
        except Exception:
            logs.LOGGER.exception("internal error while deciding about a login")
            verdict, error = Verdict.REFUSE, INTERNAL_ERROR
        finally:
            if self._asking.get(login.client) is asking:
                del self._asking[login.client]
        told = METHOD_NUMBERS.get("ldap" if isinstance(method, LdapOptions) else str(method))
        self._engine.answer_policy(login.client, verdict, error, method=told)

    async def _is_right(self, login: Policy, method: str | LdapOptions, asking: Asking) -> bool:
        """Whether the password is right; a reload may have come since the client was asked for it: then it counts no more."""
        assert login.proof is not None
        password, timeout_s = login.proof.removesuffix(b"\0"), connect_timeout_s(self._pools.config)
        if isinstance(method, LdapOptions):
            return await self._ldap.is_right(method, login.user, password, timeout_s=timeout_s, asking=asking)
        if (method or self._pools.config.auth_type) != "plain":
            return False
        secret = await self._secret_of(login, asking)
        if await self._plain.is_right(secret, login.user, password, timeout_s=timeout_s):
            return True
        before, secret = secret, await self._secret_of(login, asking, again=True)
        return secret != before and await self._plain.is_right(secret, login.user, password, timeout_s=timeout_s)

    async def _secret_of(self, login: Policy, asking: Asking, *, again: bool = False) -> Secret | None:
        """What the user's password is checked against; `again`: what has been remembered may be wrong."""
        secret = self._pools.userlist.get(login.user)
        lookup = routing.lookup_for(self._pools.config, routing.as_name(login.database))
        if secret is not None or lookup is None:
            return secret
        with self._looked_up.taken():
            return (await self._auth_query.find(lookup, login.user, again=again, asking=asking)).secret

    async def _method(self, login: Policy, asking: Asking) -> str | LdapOptions | Refusal:
        """How this login is to be proved; empty where auth_type says it for all."""
        if (ldap := self._access().ldap) is not None and not self._is_own_console(login):
            return ldap
        if self._pools.config.auth_type != "hba" or self._is_own_console(login):
            return ""
        replication = login.startup.get(b"replication", b"").lower()
        visitor = Visitor(
            database=routing.as_name(login.database),
            user=routing.as_name(login.user),
            address=None if login.is_unix else address_of(_text(login.address)),
            is_replication=replication not in NO_PHYSICAL,
            is_encrypted=login.certificate is not None,
            certificate=tuple(map(routing.as_name, login.certificate or ())),
        )
        facts = Facts()
        while True:
            try:
                return await trio.to_thread.run_sync(self._access().method, visitor, login.peer_uid, facts)
            except FactWanted as wanted:
                facts = await self._inquiries.learn(facts, wanted.kind, visitor, asking)

    async def _decide(self, login: Policy, method: str, asking: Asking) -> tuple[Verdict, bytes]:
        pools = self._pools
        secret, answer, config = pools.userlist.get(login.user), None, pools.config
        lookup = routing.lookup_for(config, routing.as_name(login.database)) if config.auth_type != "any" else None
        if method == "ldap":
            lookup = None  # nothing is compared with what PostgreSQL has
        if secret is None and lookup is not None and not self._is_own_console(login):
            answer = self._auth_query.known(lookup, login.user) if login.passed else None
            if answer is None:
                with self._looked_up.taken():
                    answer = await self._auth_query.find(lookup, login.user, again=login.again, asking=asking)
            if pools.config is not config:  # a reload came in between: we are asked again
                return Verdict.REFUSE, INTERNAL_ERROR
            secret = answer.secret
        decision = routing.route(
            config,
            login.database,
            login.user,
            secret=secret,
            is_unix=login.is_unix,
            peer_uid=login.peer_uid,
            own_uid=self._own_uid,
            method=method,
            looked_up=answer is not None,
        )
        nobody = self._is_nobody(login, decision)
        if nobody and answer is None:
            pools.set_nobody(login.database, login.user)
        elif nobody and answer is not None and config.auth_query_ttl:
            self._auth_query.tell_nobody(answer, login.database, login.user)
        elif answer is not None and lookup is not None:
            await self._auth_query.tell(
                lookup, answer, login.database, login.user, scram=config.auth_type in SCRAM_TYPES
            )
        elif method != "ldap" and not (isinstance(decision, ToConsole) and decision.verdict == Verdict.CONSOLE_TRUSTED):
            await pools.ensure_credential(login.user)
        match decision:
            case Refusal():
                return decision.verdict, decision.error_response()
            case ToConsole():
                return decision.verdict, b""
            case ToPool() if pools.holds.ending:
                return Verdict.REFUSE_LATE, SHUTTING_DOWN
            case ToPool() if decision.key.database in pools.holds.disabled:
                text = f'database "{decision.key.database}" is disabled'
                return Verdict.REFUSE_LATE, error_response(PoolClosed(text, sqlstate="55000"))
            case ToPool() if login.passed or login.proof is not None:  # else its pool is made when it has been proved
                # A reload may have come while keys were computed: the route must be that of the configuration in force now.
                if routing.entry_for(pools.config, decision.key.database) is decision.entry:
                    record = pools.add_login(login.database, login.user, decision)
                    if answer is not None:
                        pools.looked_up(decision, answer.secret)
                        record.shown = None
                    if login.proof is not None and method == "ldap" and decision.entry.user is None:
                        pools.was_shown(record, Secret.plain_password(login.proof.removesuffix(b"\0")))
                return Verdict.RETRY, b""
            case ToPool():
                if answer is not None:  # it may have a pool already, and then nobody asks when it has been proved
                    pools.looked_up(decision, answer.secret)
                return Verdict.RETRY, b""

    def _is_nobody(self, login: Policy, decision: ToPool | ToConsole | Refusal) -> bool:
        """Whether no password is right, where the engine would not ask us again about a user who has one."""
        config, name = self._pools.config, routing.as_name(login.database)
        if not isinstance(decision, Refusal) or decision.sqlstate != "28P01" or config.auth_type not in PASSWORD_TYPES:
            return False
        return routing.entry_for(config, name) is not None and name not in self._pools.holds.disabled

    def _is_own_console(self, login: Policy) -> bool:
        """Our own uid on the unix socket, which needs no secret for the console."""
        decision = routing.route(
            self._pools.config,
            login.database,
            login.user,
            secret=None,
            is_unix=login.is_unix,
            peer_uid=login.peer_uid,
            own_uid=self._own_uid,
        )
        return decision == ToConsole(Verdict.CONSOLE_TRUSTED)

    async def _answer_console(self, client: int, client_id: int, kind: bytes, body: bytes, is_admin: bool) -> None:
        """Answer one message; a worker sends the next one of a client when it has the answer."""
        if (asking := self._consoles.get(client_id)) is None:
            asking = ConsoleClient(ConsoleSession(self._console, client=client_id, is_admin=is_admin))
            self._consoles[client_id] = asking
        if kind in COUNTED:
            self._report.periods.count_console_command()
        answer = b""
        with trio.CancelScope() as asking.running:
            try:
                suspended = self._pools.holds.suspended and is_admin
                said = await self.handing.answer(client_id, kind, body, suspended=suspended)
                answer = await asking.session.answer(kind, body) if said is None else said
            except Exception:
                logs.LOGGER.exception("internal error on the console")
                answer = asking.session.broken_off(kind, InternalError("internal error"))
        if asking.running.cancelled_caught:
            answer = asking.session.broken_off(kind)
        asking.running = None
        await until_taken(partial(self._engine.reply, client, answer))

    async def _console_gone(self, client_id: int) -> None:
        self._consoles.pop(client_id, None)
        await self._orders.console_gone(client_id)

    async def _look_for_consoles(self) -> None:
        """The letter of one that has left was lost: see who is there."""
        there = {row["id"] for row in await self._report.clients()}
        for client_id in self._consoles.keys() - there:
            await self._console_gone(client_id)

    async def _carry_cancel(self, cancel: Cancel) -> None:
        record = self._pools.get(cancel.pool)
        where = str(record.key) if record is not None else ""
        config, host = self._pools.config, _text(cancel.host)
        in_doubt = False
        try:
            async with self._cancels.taken(host, cancel.port, config.cancel_wait_timeout):
                await send_cancel(
                    host=host,
                    port=cancel.port,
                    backend_pid=cancel.backend_pid,
                    backend_key=cancel.backend_key,
                    timeout_s=connect_timeout_s(config),
                    secured=record.secured(host) if cancel.tls and record is not None else None,
                )
        except PgPoolError as error:
            in_doubt = isinstance(error, CancelUnanswered)
            logs.LOGGER.warning("%s", logs.line(where, str(error)))
        except Exception:
            logs.LOGGER.exception("internal error while carrying a cancel request")
        finally:
            self._engine.cancel_done(cancel.server, in_doubt=in_doubt)
            self._engine.cancel_over(cancel.canceller)

    async def _pass_on_cancel(self, peer: int, key: bytes, canceller: int) -> None:
        try:
            await self.peers.carry(self._pools.config, peer, key)
        except Exception:
            logs.LOGGER.exception("internal error while passing on a cancel request")
        finally:
            self._engine.cancel_over(canceller)

    async def _ask_elsewhere(self, key: bytes, canceller: int) -> None:
        try:
            if self.elsewhere is not None:
                await self.elsewhere(key)
        except Exception:
            logs.LOGGER.exception("internal error while passing on a cancel request")
        finally:
            self._engine.cancel_over(canceller)

    def _server_closed(self, server_id: int, pool: int, reason: str | bytes, age_us: int, host: str, port: int) -> None:
        self._loans.server_closed(server_id)
        record = self._pools.get(pool)
        if record is not None and self._pools.config.log_disconnections:
            text = f"closing because: {_text(reason)} (age={age_us // 1_000_000}s)"
            tag = logs.server_tag(server_id, record.key.database, record.key.user, host, port)
            logs.LOGGER.info("%s", logs.line(tag, text))
        self._orders.stirred()
        self._opener.poke()


_LEVELS: Final = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def _level(level: int | str | bytes) -> int:
    return level if isinstance(level, int) else _LEVELS.get(_text(level).upper(), logging.WARNING)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
