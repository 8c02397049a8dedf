"""SCRAM-SHA-256 as PostgreSQL uses it: password preparation, keys, proofs, and the form in which secrets are stored.

Pure functions of bytes, with one exception: `scram_keys` computes in a worker thread and remembers what it computed.
scramp is the oracle in our tests; it is not called here because it refuses what PostgreSQL accepts (fewer than 4096
iterations, salts below 12 bytes, passwords outside SASLprep) and runs PBKDF2, about 1 ms for 4096 rounds, in the
caller's thread at each login.

Sources: RFC 5802, RFC 7677; PostgreSQL docs, "SASL Authentication"; PostgreSQL src/common/saslprep.c, scram-common.c.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stringprep
import threading
import unicodedata
from base64 import b64decode, b64encode
from collections import OrderedDict
from typing import Final

import attrs
import trio

DEFAULT_ITERATIONS: Final = 4096  # scram_iterations of PostgreSQL and PgBouncer
MAX_ITERATIONS: Final = 10_000_000  # of a stored secret; some seconds of PBKDF2
MAX_SERVER_ITERATIONS: Final = 1_000_000  # PgBouncer's bound for what a hostile server may make us compute
KEY_LEN: Final = 32  # bytes of a SHA-256 digest
MAX_SALT_LEN: Final = 64  # bytes of a stored secret's; the workers have room for so many
SALT_LEN: Final = 16  # of those made here, as of PostgreSQL's
CACHE_LIMIT: Final = 10_000  # key sets remembered, about 0.3 kB each

_SECRET_PREFIX: Final = b"SCRAM-SHA-256$"


@attrs.frozen(repr=False)
class ScramKeys:
    """What PBKDF2 makes of a password: enough to log in (`client_key`) and to check the other side (`server_key`)."""

    client_key: bytes
    server_key: bytes

    @property
    def stored_key(self) -> bytes:
        """H(ClientKey): what a server stores to check a proof."""
        return hashlib.sha256(self.client_key).digest()

    def __repr__(self) -> str:
        return "ScramKeys(hidden)"


@attrs.frozen(repr=False)
class ScramSecret:
    """`SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, as in pg_authid.rolpassword; salt and keys are raw bytes."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def parse(cls, text: bytes) -> ScramSecret:
        """Read the stored form.

        Raises:
            ValueError: it is not one; the text names the part that is wrong and repeats none of it.
        """
        if not text.startswith(_SECRET_PREFIX):
            raise ValueError("not a SCRAM-SHA-256 secret")
        try:
            head, keys = text[len(_SECRET_PREFIX) :].split(b"$")
            count, salt = head.split(b":")
            stored_key, server_key = keys.split(b":")
        except ValueError:
            raise ValueError("a SCRAM secret is SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY") from None
        iterations = parse_iterations(count)
        secret = cls(iterations, decode_base64(salt), decode_base64(stored_key), decode_base64(server_key))
        if not 0 < len(secret.salt) <= MAX_SALT_LEN:
            raise ValueError(f"the salt of a SCRAM secret has 1 to {MAX_SALT_LEN} bytes")
        if len(secret.stored_key) != KEY_LEN or len(secret.server_key) != KEY_LEN:
            raise ValueError(f"the keys of a SCRAM-SHA-256 secret are {KEY_LEN} bytes long")
        return secret

    def __repr__(self) -> str:
        return f"ScramSecret(iterations={self.iterations}, hidden)"


def parse_iterations(digits: bytes, most: int = MAX_ITERATIONS) -> int:
    """Read an iteration count, 1 to `most`; ValueError for anything else."""
    if not digits.isdigit() or len(digits) > 8 or not 1 <= int(digits) <= most:
        raise ValueError(f"a SCRAM iteration count is a number from 1 to {most}")
    return int(digits)


def decode_base64(text: bytes) -> bytes:
    """Decode strict base64; ValueError when there is anything else in it."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ValueError("invalid base64 in SCRAM data") from None


def prepare_password(password: bytes) -> bytes:
    """The bytes that PostgreSQL and libpq put into PBKDF2: `password` after SASLprep where it applies, else unchanged.

    Follows pg_saslprep, not the letter of RFC 4013: ASCII passes untouched, prohibited characters are looked for
    before the normalisation, U+200B becomes a space, and whatever is refused (invalid UTF-8 included) falls back to
    the raw bytes.
    """
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    spaced = (" " if stringprep.in_table_c12(c) else c for c in text)
    chars = [c for c in spaced if not stringprep.in_table_b1(c)]
    if not chars or any(map(_is_prohibited, chars)):
        return password
    if any(
        map(stringprep.in_table_d1, chars)
    ):  # right-to-left: no left-to-right beside it, and it begins and ends the text
        edges = stringprep.in_table_d1(chars[0]) and stringprep.in_table_d1(chars[-1])
        if not edges or any(map(stringprep.in_table_d2, chars)):
            return password
    return unicodedata.normalize("NFKC", "".join(chars)).encode()


def _is_prohibited(char: str) -> bool:
    """RFC 4013 sections 2.3 and 2.5: controls, private use, surrogates, tags, and what Unicode 3.2 had not assigned."""
    return (
        stringprep.in_table_a1(char)
        or stringprep.in_table_c21_c22(char)
        or stringprep.in_table_c3(char)
        or stringprep.in_table_c4(char)
        or stringprep.in_table_c5(char)
        or stringprep.in_table_c6(char)
        or stringprep.in_table_c7(char)
        or stringprep.in_table_c8(char)
        or stringprep.in_table_c9(char)
    )


def derive_keys(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """PBKDF2 and the two HMACs of RFC 5802 section 3; `iterations` x 0.25 us of CPU, without the GIL."""
    salted = hashlib.pbkdf2_hmac("sha256", prepare_password(password), salt, iterations)
    return ScramKeys(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


def client_proof(keys: ScramKeys, auth_message: bytes) -> bytes:
    """ClientKey XOR HMAC(StoredKey, AuthMessage): shows that we know the password."""
    signature = _hmac(keys.stored_key, auth_message)
    return bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))


def server_signature_is(signature: bytes, keys: ScramKeys, auth_message: bytes) -> bool:
    """Whether the server has shown that it knows ServerKey, compared in constant time."""
    return hmac.compare_digest(signature, _hmac(keys.server_key, auth_message))


def new_nonce() -> bytes:
    """18 random bytes in base64, as libpq makes them: printable and without a comma."""
    return b64encode(secrets.token_bytes(18))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


class _KeyCache:
    """Keys and salts that are dear to make again; least recently used out first. Any thread may call.

    The index is a keyed digest of the password, so no plain password lives longer than the configuration that holds it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._index_key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._keys: OrderedDict[bytes, ScramKeys] = OrderedDict()
        self._salts: OrderedDict[bytes, bytes] = OrderedDict()

    def index(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._index_key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def find(self, index: bytes) -> ScramKeys | None:
        with self._lock:
            if index not in self._keys:
                return None
            self._keys.move_to_end(index)
            return self._keys[index]

    def store(self, index: bytes, keys: ScramKeys) -> None:
        with self._lock:
            self._keys[index] = keys
            if len(self._keys) > self._limit:
                self._keys.popitem(last=False)

    def salt_for(self, index: bytes) -> bytes:
        with self._lock:
            salt = self._salts.setdefault(index, secrets.token_bytes(SALT_LEN))
            self._salts.move_to_end(index)
            if len(self._salts) > self._limit:
                self._salts.popitem(last=False)
            return salt


_CACHE = _KeyCache(CACHE_LIMIT)
_LIMITER: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("scram_limiter")


async def scram_keys(
    user: bytes, password: bytes, salt: bytes, iterations: int, *, limiter: trio.CapacityLimiter | None = None
) -> ScramKeys:
    """Keys for this password, from memory or computed off the event loop: `limiter`, or as many threads as there are processors.

    A cancelled computation is left to finish in its thread (Python cannot stop it) and still fills the cache.
    """
    index = _CACHE.index(user, password, salt, b"%d" % iterations)
    if (known := _CACHE.find(index)) is not None:
        await trio.lowlevel.checkpoint()
        return known

    def compute() -> ScramKeys:
        keys = derive_keys(password, salt, iterations)
        _CACHE.store(index, keys)
        return keys

    return await trio.to_thread.run_sync(compute, abandon_on_cancel=True, limiter=limiter or _limiter())


def mock_salt(key: bytes, user: bytes) -> bytes:
    """What `credentials_mock` has for a user who does not exist: whose salt is another, or changes, is known to exist."""
    return _hmac(key, b"\0" + user)[:SALT_LEN]


async def new_scram_secret(
    user: bytes, password: bytes, iterations: int = DEFAULT_ITERATIONS, *, salt: bytes | None = None
) -> ScramSecret:
    """A secret to check `user` against, made from the plain password; without `salt` the same one for as long as the process lives."""
    if salt is None:
        salt = _CACHE.salt_for(_CACHE.index(user, password))
    keys = await scram_keys(user, password, salt, iterations)
    return ScramSecret(iterations, salt, keys.stored_key, keys.server_key)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = trio.CapacityLimiter(os.cpu_count() or 1)
        _LIMITER.set(limiter)
        return limiter
