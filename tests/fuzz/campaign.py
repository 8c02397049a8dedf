"""One target tried with inputs made of its corpus, for a while."""

from __future__ import annotations

import hashlib
import mmap
import struct
import time
from collections.abc import Hashable
from pathlib import Path
from random import Random

import attrs

from tests.fuzz.mutate import MAX_LEN, mutate
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@attrs.frozen(kw_only=True)
class Found:
    """What a campaign has come to."""

    runs: int
    outcomes: int
    new: tuple[bytes, ...]  # inputs that led to outcomes which the corpus did not have


class TargetFailed(Exception):
    """A target has refused an input, which has been written to `path`."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(f"{name} failed; try again with: python -m tests.fuzz --target {name} --input {path}")
        self.path = path


class LastInput:
    """The input being tried, kept in a file that is still right when a sanitizer ends the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(4 + MAX_LEN))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4 + MAX_LEN)

    def note(self, data: bytes) -> None:
        data = data[:MAX_LEN]
        self._map[: 4 + len(data)] = struct.pack("!I", len(data)) + data

    def close(self) -> None:
        self._map.close()
        self.path.unlink()

    @staticmethod
    def read(path: Path) -> bytes:
        """The input in such a file, whose name ends in `.last`; any other file is an input itself."""
        data = path.read_bytes()
        return data[4 : 4 + struct.unpack("!I", data[:4])[0]] if path.suffix == ".last" else data


def corpus_of(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def input_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def run(name: str, *, seconds: float, seed: int, artifacts: Path) -> Found:
    """Try the corpus, then what can be made of it, for `seconds`; the same seed tries the same inputs.

    Raises:
        TargetFailed: with the input in `artifacts`. A crash leaves it there as `<target>.last`.
    """
    target, random = TARGETS[name], Random(f"{seed}/{name}")
    seeds = corpus_of(name)
    waiting = list(reversed(seeds))
    seen: set[Hashable] = set()
    new: list[bytes] = []
    runs = 0
    last = LastInput(artifacts / f"{name}.last")
    end_s = time.monotonic() + seconds
    while waiting or time.monotonic() < end_s:
        from_corpus = bool(waiting)
        data = waiting.pop() if waiting else mutate(seeds, random)
        last.note(data)
        try:
            outcome = target(data)
        except Exception as error:
            path = artifacts / f"{name}-{input_name(data)}"
            path.write_bytes(data)
            raise TargetFailed(name, path) from error
        runs += 1
        if outcome not in seen:
            seen.add(outcome)
            if not from_corpus:
                seeds.append(data)
                new.append(data)
    last.close()
    return Found(runs=runs, outcomes=len(seen), new=tuple(new))
