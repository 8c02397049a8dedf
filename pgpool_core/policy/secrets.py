"""What is known of one user's password, in the forms that PostgreSQL and PgBouncer store: plain, md5, SCRAM, nothing.

Source: PostgreSQL docs, "Password Authentication", pg_authid.rolpassword; PgBouncer docs, "Authentication file format".
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final, TypedDict

import attrs
import trio

from pgpool_core.policy.scram import DEFAULT_ITERATIONS, ScramSecret, new_scram_secret

MAX_SECRET_LEN: Final = 65530  # bytes; PgBouncer's limit for a password

_MD5_HEX: Final = frozenset(b"0123456789abcdef")


class SecretKind(enum.Enum):
    """Which form a secret has; it decides which logins it can serve."""

    NONE = "none"  # an empty entry: the user exists, no password matches
    PLAIN = "plain"  # good for every method, on both sides
    MD5 = "md5"  # md5(password + user name): md5 logins only, on both sides
    SCRAM = "scram-sha-256"  # checks clients; logs in to a server with the key that a client has revealed


class Credential(TypedDict, total=False):
    """Keyword arguments of `Engine.set_credential`; a missing one means that the method has nothing to compare with."""

    plain: bytes
    md5: bytes
    scram: tuple[int, bytes, bytes, bytes]  # iterations, salt, StoredKey, ServerKey; the last three raw


@attrs.frozen(repr=False, kw_only=True)
class Secret:
    """A secret of one kind; hidden in repr and so in every log and traceback. Build it with `Secret.parse`."""

    plain: bytes | None = None
    md5: bytes | None = None  # 32 lower-case hex digits, without the "md5" before them
    scram: ScramSecret | None = None
    client_key: bytes | None = (
        None  # of `scram`, where a client has revealed it: logs in to servers with the same secret
    )

    @classmethod
    def parse(cls, text: bytes) -> Secret:
        """Read a secret as auth_file, auth_query and `password=` write it.

        `md5` and 32 lower-case hex digits are an md5 secret, as for PostgreSQL; any other text without a SCRAM prefix
        is a plain password. An empty text gives a secret that no login can match.

        Raises:
            ValueError: begins as a SCRAM secret and is none, or is too long; the text does not repeat the secret.
        """
        if not text:
            return cls()
        if len(text) > MAX_SECRET_LEN:
            raise ValueError(f"a password has at most {MAX_SECRET_LEN} bytes")
        if b"\0" in text:
            raise ValueError("a password cannot contain a zero byte")
        if text.startswith(b"SCRAM-SHA-256$"):
            return cls(scram=ScramSecret.parse(text))
        if text.startswith(b"md5") and len(text) == 35 and _MD5_HEX.issuperset(text[3:]):
            return cls(md5=text[3:])
        return cls(plain=text)

    @classmethod
    def plain_password(cls, password: bytes) -> Secret:
        """A secret whose text is the password itself whatever it looks like.

        Raises:
            ValueError: empty, which PostgreSQL never accepts, or too long.
        """
        if not password:
            raise ValueError("an empty password cannot be used to log in")
        if len(password) > MAX_SECRET_LEN or b"\0" in password:
            raise ValueError(f"a password has at most {MAX_SECRET_LEN} bytes and no zero byte")
        return cls(plain=password)

    @property
    def kind(self) -> SecretKind:
        if self.plain is not None:
            return SecretKind.PLAIN
        if self.md5 is not None:
            return SecretKind.MD5
        return SecretKind.NONE if self.scram is None else SecretKind.SCRAM

    def md5_for(self, user: bytes) -> bytes | None:
        """The 32 hex digits of md5(password + user), stored or computed; None where this kind cannot give them."""
        if self.plain is not None:
            return hashlib.md5(self.plain + user, usedforsecurity=False).hexdigest().encode()
        return self.md5

    async def client_credential(
        self, user: bytes, *, scram: bool = True, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None
    ) -> Credential:
        """Keyword arguments for `Engine.set_credential(user, ...)`.

        Args:
            scram: also make SCRAM keys of a plain password (4096 rounds are about 1 ms in a worker thread, once per
            user and
                password); False where auth_type can never ask for them.
            iterations: scram_iterations for keys made here; a stored SCRAM secret keeps its own.
            salt: of keys made here; None: one that this process has drawn.
        """
        credential = Credential()
        if self.plain is not None:
            credential["plain"] = self.plain
        if (digits := self.md5_for(user)) is not None:
            credential["md5"] = digits
        stored = self.scram
        if stored is None and self.plain is not None and scram:
            stored = await new_scram_secret(user, self.plain, iterations, salt=salt)
        else:
            await trio.lowlevel.checkpoint()
        if stored is not None:
            credential["scram"] = (stored.iterations, stored.salt, stored.stored_key, stored.server_key)
        return credential

    def __repr__(self) -> str:
        return f"Secret({self.kind.value}, hidden)"


def md5_answer(digits: bytes, salt: bytes) -> bytes:
    """What a client answers to AuthenticationMD5Password: "md5" + md5(digits + salt).

    Args:
        digits: md5(password + user) as 32 hex digits.
        salt: the 4 bytes of the server.
    """
    return b"md5" + hashlib.md5(digits + salt, usedforsecurity=False).hexdigest().encode()
