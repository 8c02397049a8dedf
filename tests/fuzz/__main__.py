"""`python -m tests.fuzz --seconds N`: every target for N seconds. `make fuzz` does it under sanitizers."""

from __future__ import annotations

import argparse
import secrets
import sys
import traceback
from pathlib import Path

from tests.fuzz.campaign import CORPUS, LastInput, TargetFailed, input_name, run
from tests.fuzz.targets import TARGETS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each target (default: 20)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to try the same inputs again")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--input", type=Path, help="try this one file and no other")
    parser.add_argument("--save", action="store_true", help="keep inputs that led to something new in the corpus")
    parser.add_argument("--artifacts", type=Path, default=Path(), help="where failing inputs go (default: here)")
    return parser.parse_args()


def main() -> int:
    """The exit status: 1 when a target has failed."""
    args = arguments()
    names = args.target or list(TARGETS)
    if args.input is not None:
        for name in names:
            print(f"{name}: {TARGETS[name](LastInput.read(args.input))}")
        return 0
    seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    args.artifacts.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in names:
        try:
            found = run(name, seconds=args.seconds, seed=seed, artifacts=args.artifacts)
        except TargetFailed as error:
            traceback.print_exception(error)
            failed += 1
            continue
        print(f"{name}: {found.runs} inputs, {found.outcomes} outcomes, {len(found.new)} of them new", flush=True)
        if args.save:
            for data in found.new:
                (CORPUS / name / input_name(data)).write_bytes(data)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
