"""Pass-through: SCRAM keys that clients have revealed by logging in, with which servers that have the same secret let us in.

The proof of a client that knows the password yields ClientKey; the stored secret holds only its hash. Keys are kept by that hash, so a
key can serve no other secret than its own, and is out of use when the secret changes. It is as good as the password for servers with
the same secret, and is of no use to find the password.
Source: RFC 5802 section 3.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import attrs

from pgpool_core.policy.secrets import Secret

LIMIT: Final = 100_000  # keys remembered, the least recently used go first


class ClientKeys:
    """What has been learnt so far."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def known(self) -> frozenset[bytes]:
        """All of them, for a process that takes over."""
        return frozenset(self._keys.values())

    def learn(self, client_key: bytes) -> None:
        """Remember a key that a right proof has revealed."""
        stored_key = hashlib.sha256(client_key).digest()
        self._keys[stored_key] = client_key
        self._keys.move_to_end(stored_key)
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)

    def forget(self, secret: Secret | None) -> None:
        """A secret is nobody's any more."""
        if secret is not None and secret.scram is not None:
            self._keys.pop(secret.scram.stored_key, None)

    def missing(self, secret: Secret) -> bool:
        """Whether nothing but a key could answer a server that asks for SCRAM, and there is none yet."""
        return secret.plain is None and secret.scram is not None and secret.scram.stored_key not in self._keys

    def unlock(self, secret: Secret | None) -> Secret | None:
        """The secret with its key, where that is known."""
        if secret is None or secret.scram is None:
            return secret
        key = self._keys.get(secret.scram.stored_key)
        if key is not None:
            self._keys.move_to_end(secret.scram.stored_key)
        return attrs.evolve(secret, client_key=key)
