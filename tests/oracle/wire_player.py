"""Sends a sequence to PostgreSQL and through the pooler, and compares what comes back, message by message.

What may differ, beside what `compare` leaves out:

- nothing is answered sooner or later on purpose, so only the order of messages is compared, not which reads they fill;
- ParameterStatus: its last value is compared, behind every burst;
- where PostgreSQL ends the connection (a Query inside a COPY of the extended protocol), what has been sent behind that
  may reset the connection before everything is read: such a sequence is not compared;
- NoticeResponse that a server sends of itself (none here does);
- what `differences` lists.
"""

from __future__ import annotations

import contextlib

import attrs
import trio

from pgpool_core.testing import PeerMismatch, ScriptedPeer, connect_peer
from tests.oracle.compare import Answer
from tests.oracle.differences import Known, known
from tests.oracle.player import Difference
from tests.oracle.stage import Address
from tests.oracle.wire_script import WireScript

__all__ = ["compare_wire", "shrink_wire"]

PATIENCE_S = 5.0
ATTEMPTS = 120


async def compare_wire(script: WireScript, straight: Address, pooled: Address) -> Known | None:
    """The difference at which the comparison ended, when it is one that is meant to be there.

    Raises:
        Difference: another one.
    """
    wanted = await _play(script, straight)
    if any(answer.ended for answer in wanted):
        return None
    try:
        got = await _play(script, pooled)
    except (PeerMismatch, trio.BrokenResourceError) as error:
        raise Difference(f"through the pooler: {error}") from None
    for number, (right, was) in enumerate(zip(wanted, got, strict=False)):
        for at in range(max(len(right.lines), len(was.lines))):
            one, other = (side.lines[at] if at < len(side.lines) else "nothing" for side in (right, was))
            if one != other:
                if (meant := known(one, other)) is not None:
                    return meant
                raise Difference(f"burst {number}, answer {at}:\n  PostgreSQL: {one}\n  pooler:     {other}")
        if right != was:
            raise Difference(f"burst {number}: {right.parameters} {right.ended}, not {was.parameters} {was.ended}")
    return None


async def _play(script: WireScript, address: Address) -> list[Answer]:
    """Every burst's answer; another client takes its turn on the server in between."""
    answers = []
    async with await _come(address) as peer:
        await peer.query("truncate load")
        for burst in script.bursts:
            answer = Answer()
            answers.append(answer)
            with contextlib.suppress(trio.BrokenResourceError):
                for data in burst.sends():
                    await peer.send(data)
                    await trio.lowlevel.checkpoint()
            empty = False
            while not (empty and answer.lines[-1].startswith("Z")):
                message = await peer.receive()
                if message is None:
                    answer.ended = True
                    break
                answer.add(message, peer.parameters)
                empty = (message.type == b"I" and _is_last(answer)) or (empty and message.type in (b"Z", b"S", b"N"))
            answer.close(peer.parameters)
            if answer.ended:
                break
        if not answers[-1].ended:
            await peer.send(b"X\0\0\0\4")
    return answers


def _is_last(answer: Answer) -> bool:
    """An empty statement of the extended protocol is answered inside a group: something other than Z stands before."""
    return len(answer.lines) < 2 or answer.lines[-2].startswith("Z")


async def _come(address: Address) -> ScriptedPeer:
    peer = await connect_peer((address.host, address.port), patience_s=PATIENCE_S)
    await peer.log_in("app", address.database)
    return peer


async def shrink_wire(script: WireScript, straight: Address, pooled: Address) -> WireScript:
    """The shortest sequence found that differs."""
    left = ATTEMPTS

    async def differs(shorter: WireScript) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        try:
            await compare_wire(shorter, straight, pooled)
        except Difference:
            return True
        return False

    at = 0
    while at < len(script.bursts) and len(script.bursts) > 1:
        shorter = attrs.evolve(script, bursts=[*script.bursts[:at], *script.bursts[at + 1 :]])
        if await differs(shorter):
            script = shorter
        else:
            at += 1
    for number in range(len(script.bursts)):
        burst = script.bursts[number]
        if burst.cuts and await differs(uncut := _with(script, number, attrs.evolve(burst, cuts=()))):
            script = uncut
        size = max(1, len(script.bursts[number].parts) // 2)
        while size:
            at = 0
            while at < len((burst := script.bursts[number]).parts):
                parts = [*burst.parts[:at], *burst.parts[at + size :]]
                if await differs(shorter := _with(script, number, attrs.evolve(burst, parts=parts))):
                    script = shorter
                else:
                    at += size
            size //= 2
    return script


def _with(script: WireScript, number: int, burst: object) -> WireScript:
    return attrs.evolve(script, bursts=[burst if at == number else one for at, one in enumerate(script.bursts)])
