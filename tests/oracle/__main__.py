"""`python -m tests.oracle --count 1000`: scripts until so many have been played; every one that fails, in its shortest form."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter

import trio

from pgpool_core.testing import PostgresServer
from tests.oracle.player import Difference, compare
from tests.oracle.script import Script
from tests.oracle.sessions import script_of
from tests.oracle.shrink import shrink
from tests.oracle.stage import POOLED, STRAIGHT, USERS, Address, furnish, pooler_before


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many scripts (default: 500)")
    parser.add_argument("--seed", type=int, help="of the first one; the others follow")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many (default: 10)")
    return parser.parse_args()


async def campaign(args: argparse.Namespace, straight: Address, pooled: dict[int, Address]) -> int:
    """How many scripts failed."""

    async def difference(script: Script) -> str | None:
        try:
            await compare(script, straight, pooled[script.servers])
        except Difference as found:
            return str(found)
        return None

    async def fails(script: Script) -> bool:
        return await difference(script) is not None

    first = secrets.randbelow(2**31) if args.seed is None else args.seed
    seen: Counter[str] = Counter()
    for seed in range(first, first + args.count):
        if (found := await difference(script_of(seed))) is not None:
            shortest = await shrink(script_of(seed), fails)
            again = await difference(shortest)
            print(f"{shortest}\n{again or 'NOT EVERY TIME: ' + found}\n", flush=True)
            seen[found.splitlines()[0]] += 1
            if seen.total() >= args.failures:
                break
    print(f"seeds {first} to {seed}: {seen.total()} failed")
    return seen.total()


def main() -> int:
    """The exit status: 1 when a script has failed."""
    args = arguments()
    with PostgresServer(users=USERS, databases=(POOLED, STRAIGHT), owner="boss", max_connections=60) as server:
        furnish(server)
        with pooler_before(server, servers=1) as one, pooler_before(server, servers=2) as two:
            straight = Address(server.host, server.port, STRAIGHT)
            pooled = {servers: Address(it.host, it.port, POOLED) for servers, it in ((1, one), (2, two))}
            failed = trio.run(campaign, args, straight, pooled)
            for pooler in (one, two):
                if not pooler.running:
                    print(f"A POOLER HAS ENDED:\n{pooler.log[-4000:]}")
                    failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
