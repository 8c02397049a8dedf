"""Checks passwords against SCRAM secrets where a worker does not: with so many rounds that all its clients would wait, or beyond ASCII.

A role may give itself a secret of any number of rounds (ALTER ROLE ... PASSWORD takes them ready-made), so these threads are few, and
have nothing else to do.
Source: RFC 5802 section 3; PostgreSQL docs, "Password Authentication" (the method password takes SCRAM secrets).
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import Final

import trio

from pgpool_core.control.login_steps import LoginStep
from pgpool_core.errors import PoolError
from pgpool_core.policy.client_keys import ClientKeys
from pgpool_core.policy.scram import DEFAULT_ITERATIONS, scram_keys
from pgpool_core.policy.secrets import Secret

CROWDED: Final = "passwords cannot be checked now: too many secrets of too many rounds (auth_type = plain)"


class PlainPasswordsBusy(PoolError):
    """It was not a password's turn in time."""


class PlainPasswords:
    """Belongs to the control loop; computes in threads."""

    def __init__(self, keys: ClientKeys) -> None:
        """`keys` learns those of passwords that are right."""
        self._keys = keys
        self._turns = trio.CapacityLimiter(max(1, (os.cpu_count() or 1) // 2))
        self.step = LoginStep("rounds", self._turns)

    async def is_right(self, secret: Secret | None, user: bytes, password: bytes, *, timeout_s: float) -> bool:
        """Whether `password` is that of `secret`; None, of nobody, takes as long as a usual one.

        Raises:
            PlainPasswordsBusy: not known within `timeout_s` seconds.
        """
        if secret is not None and secret.scram is None:  # it has changed since the worker looked
            known, shown = (
                (secret.plain, password) if secret.plain else (secret.md5, Secret(plain=password).md5_for(user))
            )
            return bool(known) and hmac.compare_digest(known or b"", shown or b"")
        stored = secret.scram if secret is not None else None
        salt, rounds = (stored.salt, stored.iterations) if stored else (secrets.token_bytes(16), DEFAULT_ITERATIONS)
        with self.step.taken():
            with trio.move_on_after(timeout_s):
                found = await scram_keys(user, password, salt, rounds, limiter=self._turns)
                if stored is None or not hmac.compare_digest(found.stored_key, stored.stored_key):
                    return False
                self._keys.learn(found.client_key)
                return True
            raise PlainPasswordsBusy(CROWDED, sqlstate="57P03")
