from collections.abc import Iterable, Sequence
from typing import Any

def startup_feed(data: bytes, chunks: Iterable[int] = ()) -> dict[str, Any]: ...
def startup_negotiate(data: bytes, cap: int) -> bytes: ...

class Secret:
    kinds: int
    raw: bytes
    salt: bytes
    iterations: int
    def __init__(
        self,
        user: bytes = b"",
        *,
        plain: bytes | None = None,
        md5: bytes | None = None,
        scram: tuple[int, bytes, bytes, bytes] | None = None,
    ) -> None: ...

class Table:
    def __init__(self, mock_key: bytes | None = ...) -> None: ...
    def put(self, user: bytes, secret: Secret) -> int: ...
    def get(self, user: bytes) -> Secret | None: ...
    def mock(self, user: bytes) -> Secret: ...
    def clear(self) -> None: ...

class Login:
    method: int
    raw: bytes
    def begin(
        self,
        auth_type: int,
        user: bytes,
        secret: Secret | None = None,
        *,
        known: bool = True,
        cap: int = ...,
        binding: bytes = b"",
    ) -> tuple[int, bytes]: ...
    def password(self, body: bytes, *, cap: int = ...) -> tuple[int, bytes]: ...
    def wipe(self) -> None: ...

def login_feed(
    auth_type: int,
    user: bytes,
    secret: Secret | None,
    stream: bytes,
    chunks: Iterable[int] = (),
    *,
    known: bool = True,
    cap: int = ...,
    binding: bytes = b"",
) -> list[tuple[int, int]]: ...
def reply_cap_needed(
    auth_type: int, user: bytes, secret: Secret | None, bodies: Sequence[bytes]
) -> list[tuple[int, int]]: ...
def hash_of(kind: str, *parts: bytes, key: bytes | None = None, iterations: int = 1) -> bytes: ...

class Strikes:
    def add(self, addr: bytes, now_us: int, delay_us: int) -> tuple[int | None, int, bool]: ...
