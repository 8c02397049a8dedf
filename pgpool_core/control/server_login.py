"""One login to a PostgreSQL server as a state machine of bytes: no sockets, no clock, no threads.

Feed it with `receive_data`, take `data_to_send` to the server, and ask `next_event` until it gives a verdict. PBKDF2
is not done here: `KeysWanted` asks the driver for SCRAM keys, because computing them would block the event loop. Every
byte may be hostile: messages have bounds, and what a server may not say at this point is a ServerProtocolError, which
sticks.

Source: PostgreSQL docs, "Message Flow", Start-up.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_AUTHENTICATION,
    BE_BACKEND_KEY_DATA,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    FE_PASSWORD,
    HEADER_LEN,
    ErrorFields,
    message,
    parameter_status,
    ready_status,
    startup_message,
)
from pgpool_core.control.scram_exchange import SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramExchange
from pgpool_core.control.talk import NEED_DATA, NeedData, Talk
from pgpool_core.errors import ServerProtocolError
from pgpool_core.policy.scram import ScramKeys, new_nonce
from pgpool_core.policy.secrets import Secret, SecretKind, md5_answer

MAX_MESSAGE_LEN: Final = 64 * 1024  # bytes of one body; the longest honest ones are notices and errors
MAX_LOGIN_BYTES: Final = 1024 * 1024  # of all messages of one login
MAX_LOGIN_MESSAGES: Final = 1000  # an honest login has about 20
MAX_KEY_LEN: Final = 256  # bytes of a cancel key, protocol 3.2
MAX_OLD_ERROR_LEN: Final = 1024  # the postmaster writes its fork failure into a buffer of 1000

WRONG_PASSWORD_TYPE: Final = "server login failed: wrong password type"
NO_CLIENT_KEYS: Final = (
    "cannot do SCRAM authentication: password is SCRAM secret but client authentication did not provide SCRAM keys"
)

_AUTH_OK: Final = 0
_AUTH_CLEARTEXT: Final = 3
_AUTH_MD5: Final = 5
_AUTH_SASL: Final = 10
_AUTH_SASL_CONTINUE: Final = 11
_AUTH_SASL_FINAL: Final = 12
_AUTH_UNSUPPORTED: Final = {2: "Kerberos V5", 4: "crypt", 6: "SCM credential", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}


@attrs.frozen
class KeysWanted:
    """The server asks for SCRAM: give the keys for this salt and count to `provide_keys`, then go on."""

    salt: bytes
    iterations: int


@attrs.frozen
class ServerNotice:
    """A NoticeResponse; the login goes on."""

    fields: ErrorFields


@attrs.frozen
class LoginOk:
    """The server is ready for queries; key and pid are empty and 0 where it gave none (some forks of PostgreSQL)."""

    backend_pid: int
    backend_key: bytes = attrs.field(repr=False)
    parameters: tuple[tuple[bytes, bytes], ...]  # the last value of each, in the order in which the names first came
    unread: bytes = attrs.field(repr=False)  # what came behind ReadyForQuery


@attrs.frozen
class LoginRefused:
    """The server said no, or asks for something that this secret cannot answer; the connection is of no further use."""

    fields: ErrorFields


@attrs.frozen
class LoginCut:
    """The server closed the connection before its verdict."""


Verdict = LoginOk | LoginRefused | LoginCut


class _Stage(enum.Enum):
    AUTH = "the authentication request"
    PASSWORD_SENT = "the verdict on the password"
    SASL_FIRST = "SASLContinue"
    KEYS = "our own SCRAM keys"
    SASL_FINAL = "SASLFinal"
    SASL_DONE = "AuthenticationOk"
    SETTINGS = "ReadyForQuery"


@attrs.frozen
class Channel:
    """What the login may be bound to: the TLS connection that it runs over, by the server's certificate."""

    tls: bool = False
    binding: bytes = b""
    """tls-server-end-point; empty where the certificate has none, or it is not to be used (channel_binding=disable)."""
    required: bool = False
    """No login without (channel_binding=require)."""


class ServerLogin(Talk):
    """Logs `user` in to `dbname` with `secret`; `parameters` go into the startup packet behind database and user."""

    def __init__(
        self,
        *,
        user: bytes,
        dbname: bytes,
        secret: Secret | None = None,
        parameters: Iterable[tuple[bytes, bytes]] = (),
        nonce: bytes | None = None,
        channel: Channel = Channel(),
    ) -> None:
        self._user = user
        self._channel = channel
        self._bound = False
        self._secret = secret or Secret()
        self._scram = ScramExchange(nonce or new_nonce())
        super().__init__(startup_message([(b"user", user), (b"database", dbname), *parameters]))
        self._stage = _Stage.AUTH
        self.asked = False
        """Whether the server has asked for a proof, or wanted none: it has not turned away the way that we came."""
        self._messages = 0
        self._bytes = 0
        self._verdict: Verdict | None = None
        self._wanted: KeysWanted | None = None
        self._pid = 0
        self._key = b""
        self._parameters: dict[bytes, bytes] = {}

    def provide_keys(self, keys: ScramKeys) -> None:
        """Answer to KeysWanted."""
        if self._wanted is None:
            raise RuntimeError("no SCRAM keys are wanted")
        self._out += message(FE_PASSWORD, self._scram.client_final(keys))
        self._wanted = None
        self._stage = _Stage.SASL_FINAL

    def next_event(self) -> NeedData | KeysWanted | ServerNotice | Verdict:
        """What happened; NEED_DATA until more bytes have come. A verdict is repeated when asked for again.

        Raises:
            ServerProtocolError: the server broke the protocol; raised again by every later call.
        """
        if self._error is not None:
            raise self._error
        try:
            while self._verdict is None:
                if self._wanted is not None:
                    return self._wanted
                found = self._next_message()
                if found is not None:
                    notice = self._handle(*found)
                    if notice is not None:
                        return notice
                elif self._verdict is None:
                    return NEED_DATA
        except ServerProtocolError as error:
            self._error = error
            raise
        return self._verdict

    def _next_message(self) -> tuple[int, bytes] | None:
        """Take one whole message out of the buffer; None for "not yet" and when the buffer's end was a verdict."""
        if len(self._in) >= HEADER_LEN:
            code, length = struct.unpack_from("!BI", self._in)
            if length < 4 or length - 4 > MAX_MESSAGE_LEN:
                if code == BE_ERROR_RESPONSE and self._messages == 0:
                    self._old_style_error()
                    return None
                raise ServerProtocolError(f"message {code:#04x} with length {length} during login")
            end = length + 1
            if len(self._in) >= end:
                body = bytes(self._in[HEADER_LEN:end])
                del self._in[:end]
                self._messages += 1
                self._bytes += end
                if self._messages > MAX_LOGIN_MESSAGES or self._bytes > MAX_LOGIN_BYTES:
                    raise ServerProtocolError("the server talks without end during login")
                return code, body
        if self._eof:
            self._verdict = LoginCut()
        return None

    def _old_style_error(self) -> None:
        """A postmaster that cannot fork says 'E', a text and a zero byte, no length: report_fork_failure_to_client."""
        end = self._in.find(0, 1, MAX_OLD_ERROR_LEN)
        if end < 0 and len(self._in) >= MAX_OLD_ERROR_LEN:
            raise ServerProtocolError("ErrorResponse with an impossible length during login")
        if end < 0 and not self._eof:
            return
        text = bytes(self._in[1 : end if end >= 0 else None]).decode(errors="replace").strip()
        self._verdict = LoginRefused(ErrorFields.of("FATAL", "53000", text))

    def _handle(self, code: int, body: bytes) -> ServerNotice | None:
        if code == BE_ERROR_RESPONSE:
            self._verdict = LoginRefused(ErrorFields.parse(code, body))
        elif code == BE_NOTICE_RESPONSE:
            return ServerNotice(ErrorFields.parse(code, body))
        elif code == BE_AUTHENTICATION and self._stage is not _Stage.SETTINGS:
            self._handle_authentication(body)
        elif self._stage is not _Stage.SETTINGS:
            raise ServerProtocolError(f"message {code:#04x} where {self._stage.value} was due")
        elif code == BE_PARAMETER_STATUS:
            name, value = parameter_status(body)
            self._parameters[name] = value
        elif code == BE_BACKEND_KEY_DATA:
            if not 8 <= len(body) <= 4 + MAX_KEY_LEN:
                raise ServerProtocolError("malformed BackendKeyData")
            self._pid, self._key = int.from_bytes(body[:4], "big"), body[4:]
        elif code == BE_READY_FOR_QUERY:
            if ready_status(body) != 0x49:
                raise ServerProtocolError("the server is in a transaction right after login")
            self._verdict = LoginOk(self._pid, self._key, tuple(self._parameters.items()), bytes(self._in))
        elif code != BE_NOTIFICATION_RESPONSE:  # a login event trigger may LISTEN; nobody here wants to know
            raise ServerProtocolError(f"message {code:#04x} where {self._stage.value} was due")
        return None

    def _handle_authentication(self, body: bytes) -> None:
        if len(body) < 4:
            raise ServerProtocolError("malformed Authentication message")
        kind, data = int.from_bytes(body[:4], "big"), body[4:]
        self.asked = True
        if self._channel.required and not self._bound and kind != _AUTH_SASL:
            self._refuse("server login failed: the server does not bind the login to the channel (channel_binding)")
        elif kind == _AUTH_OK and self._stage in (_Stage.AUTH, _Stage.PASSWORD_SENT, _Stage.SASL_DONE):
            self._stage = _Stage.SETTINGS  # not from SASL_FIRST or SASL_FINAL: a server must prove itself first
        elif kind == _AUTH_CLEARTEXT and self._stage is _Stage.AUTH:
            if (plain := self._secret.plain) is not None:
                self._send_password(plain)
            else:
                self._refuse_secret("a plain password")
        elif kind == _AUTH_MD5 and self._stage is _Stage.AUTH:
            if len(data) != 4:
                raise ServerProtocolError("malformed AuthenticationMD5Password")
            if (digits := self._secret.md5_for(self._user)) is not None:
                self._send_password(md5_answer(digits, data))
            else:
                self._refuse_secret("md5")
        elif kind == _AUTH_SASL and self._stage is _Stage.AUTH:
            self._start_scram(data)
        elif kind == _AUTH_SASL_CONTINUE and self._stage is _Stage.SASL_FIRST:
            self._take_challenge(*self._scram.take_server_first(data))
        elif kind == _AUTH_SASL_FINAL and self._stage is _Stage.SASL_FINAL:
            self._scram.check_server_final(data)
            self._stage = _Stage.SASL_DONE
        elif kind in _AUTH_UNSUPPORTED and self._stage is _Stage.AUTH:
            self._refuse(f"server login failed: {_AUTH_UNSUPPORTED[kind]} authentication is not supported")
        else:
            raise ServerProtocolError(f"Authentication message {kind} where {self._stage.value} was due")

    def _send_password(self, answer: bytes) -> None:
        self._out += message(FE_PASSWORD, answer + b"\0")
        self._stage = _Stage.PASSWORD_SENT

    def _start_scram(self, data: bytes) -> None:
        offered = data.split(b"\0")
        if len(offered) < 3 or offered[-2:] != [b"", b""] or b"" in offered[:-2]:
            raise ServerProtocolError("malformed AuthenticationSASL")
        binding = self._channel.binding if SCRAM_SHA_256_PLUS in offered else b""
        if SCRAM_SHA_256_PLUS in offered and not self._channel.tls:
            raise ServerProtocolError("SCRAM-SHA-256-PLUS is offered on a connection without TLS")
        if self._channel.required and not binding:
            self._refuse("server login failed: the server does not bind the login to the channel (channel_binding)")
        elif not binding and SCRAM_SHA_256 not in offered:
            self._refuse("server login failed: the server offers no SASL mechanism that is supported (SCRAM-SHA-256)")
        elif self._secret.plain is None and self._secret.client_key is None:
            self._refuse_secret("SCRAM")
        else:
            self._bound = bool(binding)
            bindable = bool(self._channel.binding) and SCRAM_SHA_256_PLUS not in offered
            first = self._scram.client_first(binding=binding, bindable=bindable)
            mechanism = SCRAM_SHA_256_PLUS if binding else SCRAM_SHA_256
            self._out += message(FE_PASSWORD, mechanism + b"\0" + len(first).to_bytes(4, "big") + first)
            self._stage = _Stage.SASL_FIRST

    def _take_challenge(self, salt: bytes, iterations: int) -> None:
        """Keys are computed from a password; those of a client that logged in are there, if the server has the same secret."""
        stored, key = self._secret.scram, self._secret.client_key
        self._wanted = KeysWanted(salt, iterations)
        self._stage = _Stage.KEYS
        if self._secret.plain is not None or stored is None or key is None:
            return
        if (stored.salt, stored.iterations) == (salt, iterations):
            self.provide_keys(ScramKeys(key, stored.server_key))
        else:
            self._wanted = None
            hint = "The SCRAM secret that clients log in with here is not the one that the server has."
            self._refuse(WRONG_PASSWORD_TYPE, hint)

    def _refuse_secret(self, asked: str) -> None:
        kind = self._secret.kind
        if kind is SecretKind.NONE:
            hint = "Give the user a password in auth_file, or the database entry a password=."
            self._refuse("server login failed: no password supplied", hint)
        else:
            hint = f"The server asks for {asked}; the stored secret is {kind.value}."
            if kind is SecretKind.SCRAM and asked == "SCRAM":
                hint = NO_CLIENT_KEYS
            self._refuse(WRONG_PASSWORD_TYPE, hint)

    def _refuse(self, text: str, hint: str = "") -> None:
        """A refusal of our own; 28000 invalid_authorization_specification, as no password has been tried."""
        self._verdict = LoginRefused(ErrorFields.of("FATAL", "28000", text, hint))
