"""TLS towards servers: what an entry asks for, the contexts that are made of it, and the way from a bare socket to a session.

The modes mean what they mean to libpq. `prefer` and `allow` are about getting through: they verify nothing. `require` verifies the
authority where one is given. Nothing that a server says before its certificate has been looked at is believed.
Source: PostgreSQL docs, "SSL Support" (libpq), "SSL Session Encryption"; CVE-2021-23222, CVE-2024-10977.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import trio

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.config.tls import SECURE, VERSIONS, protocols_of
from pgpool_core.control.pipes import BytePipe, SocketPipe, TlsPipe
from pgpool_core.control.server_login import Channel
from pgpool_core.control.tls import LIBRARYS_CIPHERS, NOTHING, VERIFYING
from pgpool_core.errors import ConfigError, ConfigProblem, ServerProtocolError, TlsError
from pgpool_core.tls.face import Context, Session

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
SYSTEM: Final = "system"
"""sslrootcert: whom the system trusts."""

STRICT: Final = ("require", *VERIFYING)

_KEYS: Final = {"certificate": "sslcert", "key": "sslkey", "pair": "sslkey", "ca": "sslrootcert", "crl": "sslcrl"}
"""Of an entry of [databases], by what they are in a context."""

_SETTINGS: Final = {
    "certificate": ("cert_file", "server_tls_cert_file"),
    "key": ("key_file", "server_tls_key_file"),
    "pair": ("key_file", "server_tls_key_file"),
    "ca": ("ca_file", "server_tls_ca_file"),
    "crl": ("crl_file", "server_tls_crl_file"),
    "protocols": ("protocols", "server_tls_protocols"),
    "ciphers": ("ciphers", "server_tls_ciphers"),
    "suites": ("suites", "server_tls13_ciphers"),
}


@attrs.frozen(kw_only=True)
class TlsWish:
    """What one entry wants of its servers. Two that are equal share a context."""

    mode: str = "disable"
    direct: bool = False  # sslnegotiation = direct
    sni: bool = True
    channel_binding: str = "prefer"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    crl_file: str = ""
    protocols: tuple[str, ...] = SECURE
    ciphers: str = "default"
    suites: str = ""
    of_entry: frozenset[str] = attrs.field(factory=frozenset, eq=False)  # keys that the entry has itself, for messages

    @property
    def verifies(self) -> bool:
        """Whether a certificate is needed that leads to somebody who is trusted."""
        return self.mode in VERIFYING or (self.mode == "require" and bool(self.ca_file))

    def steps(self, *, is_unix: bool) -> tuple[bool, ...]:
        """With TLS or without, in the order in which that is tried."""
        if is_unix or self.mode == "disable":
            return (False,)
        return {"allow": (False, True), "prefer": (True, False)}.get(self.mode, (True,))


def tls_wish(config: Config, entry: DatabaseConfig) -> TlsWish:
    """What holds for an entry: its own keys, else those of [pgbouncer]."""
    protocols = protocols_of(config.server_tls_protocols)
    if entry.ssl_min_protocol_version or entry.ssl_max_protocol_version:
        low = VERSIONS.index(_version(entry.ssl_min_protocol_version or "tlsv1.2"))
        high = VERSIONS.index(_version(entry.ssl_max_protocol_version or "tlsv1.3"))
        protocols = VERSIONS[low : high + 1]
    return TlsWish(
        mode=entry.sslmode or ("verify-full" if entry.sslrootcert == SYSTEM else config.server_tls_sslmode),
        direct=entry.sslnegotiation == "direct",
        sni=entry.sslsni is not False,
        channel_binding=entry.channel_binding or "prefer",
        ca_file=entry.sslrootcert or config.server_tls_ca_file,
        cert_file=entry.sslcert or config.server_tls_cert_file,
        key_file=entry.sslkey or config.server_tls_key_file,
        crl_file=entry.sslcrl or config.server_tls_crl_file,
        protocols=protocols,
        ciphers=config.server_tls_ciphers,
        suites=config.server_tls13_ciphers,
        of_entry=frozenset(key for key in _KEYS.values() if getattr(entry, key)),
    )


def _version(word: str) -> str:
    return "tlsv1.0" if word == "tlsv1" else word


def wishes_of(config: Config) -> dict[TlsWish, str]:
    """What all entries want, and which of them wants it."""
    return {tls_wish(config, entry): name for name, entry in reversed(list(config.databases.items()))}


class TlsContexts:
    """The contexts in use, by what they were made for. One object for the whole pooler, like its names."""

    def __init__(self) -> None:
        self._made: dict[TlsWish, Context] = {}

    def use(self, made: Mapping[TlsWish, Context]) -> None:
        """From now on these: a reload has read the files again."""
        self._made = dict(made)

    async def get(self, wish: TlsWish) -> Context:
        """The context for a wish.

        Raises:
            ConfigError: it cannot be made.
        """
        if wish not in self._made:
            self._made[wish] = await trio.to_thread.run_sync(make_context, wish)
        return self._made[wish]


def make_contexts(wishes: Mapping[TlsWish, str]) -> dict[TlsWish, Context]:
    """Read every file that is named.

    Raises:
        ConfigError: one cannot be read or used; names it, and the entry.
    """
    made: dict[TlsWish, Context] = {}
    problems: list[ConfigProblem] = []
    for wish, name in wishes.items():
        if wish.mode == "disable":
            continue
        try:
            made[wish] = make_context(wish)
        except ConfigError as error:
            problems += [
                ConfigProblem(f'database "{name}": {each.text}', section="databases", key=each.key)
                for each in error.problems
            ]
    if problems:
        raise ConfigError(problems)
    return made


def wish_problems(wishes: Mapping[TlsWish, str]) -> Iterable[ConfigProblem]:
    """What contradicts itself."""
    for wish, name in wishes.items():
        for text, key in _contradictions(wish):
            yield ConfigProblem(f'database "{name}": {text} ({key})', section="databases", key=key)


def _contradictions(wish: TlsWish) -> Iterable[tuple[str, str]]:
    if wish.direct and wish.mode not in STRICT:
        yield f"sslnegotiation = direct needs sslmode = require or stricter, not {wish.mode}", "sslnegotiation"
    if wish.ca_file == SYSTEM and wish.mode != "verify-full":
        yield f"sslrootcert = system needs sslmode = verify-full, not {wish.mode}", "sslrootcert"
    if wish.channel_binding == "require" and wish.mode not in STRICT:
        yield f"channel_binding = require needs sslmode = require or stricter, not {wish.mode}", "channel_binding"
    if bool(wish.cert_file) != bool(wish.key_file):
        given = "certificate" if wish.cert_file else "key"
        yield "a client certificate needs both its file and that of its key", _named(wish, given)[1]
    if not wish.protocols:
        yield "no version of TLS is left", "ssl_min_protocol_version"


def make_context(wish: TlsWish) -> Context:
    """Read the files of a wish.

    Raises:
        ConfigError: one cannot be read or used; names it.
    """
    system = wish.ca_file == SYSTEM or (not wish.ca_file and wish.verifies)
    try:
        return Context(
            role="client",
            peer="required" if wish.verifies else "ignored",
            ca=b"" if wish.ca_file == SYSTEM or not wish.verifies else _read(wish, "ca"),
            system_ca=system and wish.verifies,
            crl=_read(wish, "crl") if wish.verifies else b"",
            certificate=_read(wish, "certificate"),
            key=_read(wish, "key"),
            protocols=wish.protocols,
            ciphers=""
            if wish.ciphers in LIBRARYS_CIPHERS
            else "ALL:!aNULL:!eNULL"
            if wish.ciphers == "all"
            else wish.ciphers,
            suites=wish.suites,
        )
    except TlsError as error:
        field, key = _named(wish, error.part)
        value = getattr(wish, field)
        why = f"{error} in {_named(wish, 'certificate')[1]} {wish.cert_file}" if error.part == "pair" else str(error)
        raise ConfigError([ConfigProblem(f"{value}: {why} ({key})" if value else f"{why} ({key})", key=key)]) from None


def setting_of(wish: TlsWish, error: TlsError | ConfigError) -> str:
    """What the configuration calls that which is to be changed."""
    return _named(wish, error.part)[1] if isinstance(error, TlsError) else "server_tls_sslmode"


def _named(wish: TlsWish, part: str) -> tuple[str, str]:
    """The field of a wish, and what the configuration calls it."""
    field, key = _SETTINGS.get(part, ("mode", "server_tls_sslmode"))
    own = _KEYS.get(part, "")
    return field, own if own in wish.of_entry else key


def _read(wish: TlsWish, part: str) -> bytes:
    field, key = _named(wish, part)
    path: str = getattr(wish, field)
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            return file.read() or NOTHING
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or error} ({key})"
        raise ConfigError([ConfigProblem(text, key=key)]) from error


@attrs.frozen
class Secured:
    """How a connection is encrypted; a cancel request for it goes the same way, because its key is a secret."""

    wish: TlsWish
    contexts: TlsContexts
    name: str  # the host as the entry calls it


class NoTls(Exception):
    """The server has none."""


async def begin_tls(sock: trio.socket.SocketType, secured: Secured) -> TlsPipe:
    """Ask the server on `sock` for TLS and shake hands.

    Args:
        secured: its `name` is whose certificate it has to be with verify-full, and what is asked for (SNI) where it is no address.

    Raises:
        NoTls: the server says that it has none; nothing else has been said.
        TlsError: no handshake, or its certificate is not good.
        ServerProtocolError: the answer to SSLRequest is none.
        OSError: the connection broke.
    """
    wish, host = secured.wish, secured.name
    context = await secured.contexts.get(wish)
    if not wish.direct:
        await SocketPipe(sock).send_all(SSL_REQUEST)
        answer = await sock.recv(2)
        if answer == b"N":
            raise NoTls
        if answer[:1] == b"E":  # nobody knows who says so: the text is not repeated
            raise TlsError("the server answered the request for TLS with an error", part="peer")
        if len(answer) > 1:
            raise ServerProtocolError("the server sent unencrypted data behind its answer to the request for TLS")
        if answer != b"S":
            raise (ServerProtocolError("the answer to the request for TLS is none") if answer else _hung_up())
    checked = host if wish.mode == "verify-full" else ""
    try:
        session = Session(context, host=checked, name=host if wish.sni and not _is_address(host) else "")
    except UnicodeError:
        raise TlsError("no host has such a name", part="host") from None
    pipe = TlsPipe(sock, session)
    await pipe.shake_hands()
    if wish.direct and not session.alpn:
        raise TlsError('the server did not agree on the protocol "postgresql" (ALPN)', part="peer")
    return pipe


def _hung_up() -> TlsError:
    return TlsError("the server closed the connection when it was asked for TLS", part="peer")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def channel_of(wish: TlsWish, pipe: BytePipe) -> Channel:
    """What a login over `pipe` may be bound to."""
    required = wish.channel_binding == "require"
    if not isinstance(pipe, TlsPipe):
        return Channel(required=required)
    binding = b"" if wish.channel_binding == "disable" else pipe.session.peer_binding
    return Channel(tls=True, binding=binding, required=required)
