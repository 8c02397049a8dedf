"""Has a password checked by an LDAP server, in a thread: with the package ldap3, which is an extra (`pgpool-core[ldap]`).

Source: PostgreSQL docs, "LDAP Authentication"; RFC 4511, 4513 (an empty password would be an anonymous bind: it never gets here).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import ssl
from typing import Any, Final

import trio

from pgpool_core import logs
from pgpool_core.control.login_steps import Asking, LoginStep, NobodyAsks
from pgpool_core.errors import PoolError
from pgpool_core.policy.ldap import LdapOptions

INSTALL: Final = "needs the package ldap3: pip install 'pgpool-core[ldap]'"
UNAVAILABLE: Final = "passwords cannot be checked now: no LDAP server has answered"
_WRONG: Final = (16, 19, 32, 34, 48, 49, 50, 53)
"""Results that are about who asks: noSuchAttribute, constraintViolation, noSuchObject, invalidDNSyntax, inappropriateAuthentication,
invalidCredentials, insufficientAccessRights, unwillingToPerform."""
_SUCCESS: Final = 0
_END: Final = 120  # characters


class LdapUnavailable(PoolError):
    """Whether the password is right cannot be found out; the text is for the client, the log has more."""


def _ldap3() -> Any:  # whether or not there are stubs of it
    return importlib.import_module("ldap3")


def is_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("ldap3") is not None


class Ldap:
    """Checks passwords, so many at a time; who comes then waits. Belongs to the control loop."""

    def __init__(self, at_once: int) -> None:
        """`configure` changes it."""
        self._turns = trio.CapacityLimiter(at_once)
        self.step = LoginStep("ldap", self._turns)

    def configure(self, at_once: int) -> None:
        """max_ldap_logins, from now on."""
        self._turns.total_tokens = at_once

    async def is_right(
        self, options: LdapOptions, user: bytes, password: bytes, *, timeout_s: float, asking: Asking
    ) -> bool:
        """Whether an LDAP server takes `password` for `user`'s. Each step of the talk with it has `timeout_s` seconds.

        Raises:
            LdapUnavailable: none has answered, or it cannot be asked.
            NobodyAsks: `asking` has gone before it was its turn.
        """
        with self.step.taken():
            return await trio.to_thread.run_sync(
                _ask, options, user, password, timeout_s, asking, limiter=self._turns, abandon_on_cancel=True
            )


def _ask(options: LdapOptions, user: bytes, password: bytes, timeout_s: float, asking: Asking) -> bool:
    """Ask one server after the other; runs in a thread, when it is its turn."""
    if asking.gone:
        raise NobodyAsks
    try:
        name = user.decode()
    except UnicodeDecodeError:
        return False
    wanted = options.dn_of(name) if options.base is None else options.filter_for(name)
    if wanted is None:
        return _no(name, "such a name cannot be one in LDAP")
    for host in options.servers:
        try:
            return _ask_one(options, host, name, wanted, password, timeout_s)
        except LdapUnavailable:
            raise
        except Exception as error:  # whatever a server says, and ldap3 makes of it
            text = f"no answer of the LDAP server: {type(error).__name__}: {_short(str(error))}"
            logs.LOGGER.warning("%s", logs.line("", text, {"server": host, "port": options.port}))
    raise LdapUnavailable(UNAVAILABLE, sqlstate="57P03")


def _short(text: str) -> str:
    """On one line; of a long text the middle is left out: ldap3 shows a whole certificate, and says behind it what is wrong with it."""
    text = " ".join(text.split())
    return text if len(text) <= 2 * _END else f"{text[:_END]} ... {text[-_END:]}"


def _ask_one(options: LdapOptions, host: str, user: str, wanted: str, password: bytes, timeout_s: float) -> bool:
    dn: str | None = wanted
    if options.base is not None:
        with _Connection(options, host, options.bind_dn, options.bind_password.encode(), timeout_s) as asking:
            if (code := asking.bind()) != _SUCCESS:
                text = f"the LDAP server refuses ldapbinddn, result {code}"
                logs.LOGGER.error("%s", logs.line("", text, {"server": host}))
                raise LdapUnavailable(UNAVAILABLE, sqlstate="57P03")
            dn = asking.find(options.base, wanted, options.scope)
        if dn is None:
            return _no(user, "LDAP knows no such user, or several")
    assert dn is not None
    with _Connection(options, host, dn, password, timeout_s) as proving:
        code = proving.bind()
    return code == _SUCCESS or _no(user, f"LDAP refuses the password, result {code}")


def _no(user: str, why: str) -> bool:
    logs.LOGGER.info("%s", logs.line("", why, {"user": user}))
    return False


class _Connection:
    """One connection of ldap3, closed at the end."""

    def __init__(self, options: LdapOptions, host: str, dn: str, password: bytes, timeout_s: float) -> None:
        ldap3 = self._ldap3 = _ldap3()
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=os.environ.get("LDAPTLS_CACERT") or None)
        patience = math.ceil(timeout_s) if timeout_s < 1e6 else None
        server = ldap3.Server(
            host, options.port, use_ssl=options.secure, tls=tls, get_info=ldap3.NONE, connect_timeout=patience
        )
        self._starttls = options.starttls
        self._link = ldap3.Connection(
            server,
            user=dn or None,
            password=password or None,
            authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            receive_timeout=patience,
            raise_exceptions=False,
        )

    def __enter__(self) -> _Connection:
        try:
            self._link.open(read_server_info=False)
            if self._starttls and not self._link.start_tls(read_server_info=False):
                raise OSError(f"StartTLS has failed: {self._link.result.get('description')}")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def bind(self) -> int:
        """The server's result; 0 = success.

        Raises:
            OSError: one that says nothing about who asks.
        """
        self._link.bind(read_server_info=False)
        code = int(self._link.result["result"])
        if code != _SUCCESS and code not in _WRONG:
            raise OSError(f"bind has failed: {self._link.result.get('description')}")
        return code

    def find(self, base: str, search_filter: str, scope: str) -> str | None:
        """The name of the one entry that fits; None: there is none, or there are several.

        Raises:
            OSError: the search has failed.
        """
        ldap3 = self._ldap3
        scopes = {"base": ldap3.BASE, "one": ldap3.LEVEL, "sub": ldap3.SUBTREE}
        self._link.search(base, search_filter, scopes[scope], attributes=[ldap3.NO_ATTRIBUTES], size_limit=2)
        code = int(self._link.result["result"])
        found = [each["dn"] for each in self._link.response or () if each.get("type") == "searchResEntry"]
        if code not in (_SUCCESS, 4, 32):  # sizeLimitExceeded: there are several; noSuchObject: the base
            raise OSError(f"search has failed: {self._link.result.get('description')}")
        return str(found[0]) if len(found) == 1 and code == _SUCCESS else None

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # it is of no use any more, whatever that comes to
            self._link.unbind()
