"""Makes a failing script short: what can be left out without mending it is left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from tests.oracle.script import Beginning, Script

__all__ = ["shrink"]

ATTEMPTS = 120

Fails = Callable[[Script], Awaitable[bool]]


async def shrink(script: Script, fails: Fails) -> Script:
    """The shortest script found that `fails`, in at most ATTEMPTS runs."""
    left = ATTEMPTS

    async def still(shorter: Script) -> bool:
        nonlocal left
        left -= 1
        return left > 0 and await fails(shorter)

    for who in reversed(range(len(script.clients))):
        without = attrs.evolve(script, turns=[turn for turn in script.turns if turn[0] != who])
        if len(without.turns) < len(script.turns) and await still(without):
            script = without
    size = max(1, len(script.turns) // 2)
    while size:
        at = 0
        while at < len(script.turns):
            shorter = attrs.evolve(script, turns=[*script.turns[:at], *script.turns[at + size :]])
            if await still(shorter):
                script = shorter
            else:
                at += size
        size //= 2
    for who, begins in enumerate(script.clients):
        plain = [Beginning(begins.user) if one == who else how for one, how in enumerate(script.clients)]
        if begins.parameters and await still(simpler := attrs.evolve(script, clients=plain)):
            script = simpler
    return script
