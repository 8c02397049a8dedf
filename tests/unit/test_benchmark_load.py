"""A run of pgbench that tells too little for a figure is made again, and given up in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.macro import load
from benchmarks.macro.cases import CASES
from benchmarks.macro.errors import BenchError
from benchmarks.macro.load import WarmUp
from benchmarks.macro.targets import DIRECT, Target

OUTPUT = "number of transactions actually processed: 300\ntps = 100.0 (without initial connection time)\n"
STANDSTILL = "number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n"
PLACE = Target(name=DIRECT, host="127.0.0.1", port=5432, socket_dir=Path("/tmp"))


def pgbench_that_says(warm_ups: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run of 3 s tells of its warm-up when so many seconds are over."""

    def drive(*_: object, **__: object) -> tuple[WarmUp, str]:
        return WarmUp(elapsed_s=warm_ups.pop(0), transactions=100.0), OUTPUT

    monkeypatch.setattr(load, "_drive", drive)
    monkeypatch.setattr(load, "latencies_ms", lambda *_, **__: [1.0, 2.0])


def test_a_run_whose_warm_up_is_told_too_late_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_ups = [2.9, 1.0]
    pgbench_that_says(warm_ups, monkeypatch)
    sample = load.run_load(CASES[0], PLACE, pgbench=Path("pgbench"), seconds=2)
    assert sample["rate"] == pytest.approx(100.0)
    assert not warm_ups


def test_a_run_in_which_the_machine_stood_still_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [STANDSTILL, OUTPUT]
    monkeypatch.setattr(load, "_drive", lambda *_, **__: (WarmUp(elapsed_s=1.0, transactions=100.0), outputs.pop(0)))
    monkeypatch.setattr(load, "latencies_ms", lambda *_, **__: [1.0, 2.0])
    assert load.run_load(CASES[0], PLACE, pgbench=Path("pgbench"), seconds=2)["rate"] == pytest.approx(100.0)
    outputs = [STANDSTILL] * load.ATTEMPTS
    with pytest.raises(BenchError, match="no transaction ended in 3 s"):
        load.run_load(CASES[0], PLACE, pgbench=Path("pgbench"), seconds=2)


def test_a_machine_that_never_has_the_time_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pgbench_that_says([2.9] * load.ATTEMPTS, monkeypatch)
    with pytest.raises(BenchError, match="the machine is too busy"):
        load.run_load(CASES[0], PLACE, pgbench=Path("pgbench"), seconds=2)
