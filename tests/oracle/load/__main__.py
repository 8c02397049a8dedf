"""`python -m tests.oracle.load --seconds 600`: clients whose answers check themselves, before poolers of every kind, one after the other."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.oracle.load.campaign import play_round, stage_in


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for how long (default: 60)")
    parser.add_argument("--round", type=float, default=6, help="seconds before one pooler (default: 6)")
    parser.add_argument("--seed", type=int, help="of the first round; the others follow")
    parser.add_argument("--clients", type=int, default=16, help="at once (default: 16)")
    parser.add_argument("--io-backend", choices=("auto", "epoll", "io_uring"), help="of every pooler (default: any)")
    parser.add_argument("--workers", type=int, help="of every pooler (default: 1 or 2)")
    parser.add_argument("--replaced", action="store_true", help="other processes take over meanwhile (-R)")
    parser.add_argument("--failures", type=int, default=3, help="stop after so many rounds that failed (default: 3)")
    return parser.parse_args()


def main() -> int:
    """The exit status: 1 when a round has failed."""
    args = arguments()
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    failed = 0
    with tempfile.TemporaryDirectory() as folder, stage_in(Path(folder)) as stage:
        until = time.monotonic() + args.seconds
        while time.monotonic() < until and failed < args.failures:
            came = play_round(
                stage,
                seed,
                seconds=args.round,
                clients=args.clients,
                io_backend=args.io_backend,
                workers=args.workers,
                replaced=args.replaced,
            )
            print(came, flush=True)
            failed += bool(came.failures)
            seed += 1
    print(f"{failed} rounds failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
