"""Every fuzz target for a second, its whole corpus included; `make fuzz` gives them longer, under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpool_core_probes import wire_probe
from tests.fuzz import campaign
from tests.fuzz.targets import TARGETS

SEED = 20240917


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_taken_or_refused(name: str, tmp_path: Path) -> None:
    found = campaign.run(name, seconds=1, seed=SEED, artifacts=tmp_path)
    assert found.runs > len(campaign.corpus_of(name)) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_stands_beside_every_target() -> None:
    assert sorted(path.name for path in campaign.CORPUS.iterdir()) == sorted(TARGETS)


def test_a_failing_input_is_kept_to_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(data: bytes) -> None:
        assert wire_probe.marks("client")[data[0]] == "refuse"

    monkeypatch.setitem(TARGETS, "scan_client", refuses)
    with pytest.raises(campaign.TargetFailed) as failure:
        campaign.run("scan_client", seconds=0, seed=SEED, artifacts=tmp_path)
    kept = campaign.LastInput.read(failure.value.path)
    assert kept in campaign.corpus_of("scan_client")
    assert campaign.LastInput.read(tmp_path / "scan_client.last") == kept, "as after a crash"


def test_the_same_seed_tries_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[bytes]] = []
    for _ in range(2):
        inputs: list[bytes] = []
        tried.append(inputs)
        monkeypatch.setitem(TARGETS, "expect", inputs.append)
        campaign.run("expect", seconds=0.05, seed=SEED, artifacts=tmp_path)
    shorter = min(map(len, tried))
    assert shorter > 10
    assert tried[0][:shorter] == tried[1][:shorter]


def test_what_is_made_from_has_the_format_of_today() -> None:
    """Of inputs that are refused at their first bytes nothing is made that gets any further."""
    assert None not in map(TARGETS["parcel"], campaign.corpus_of("parcel"))
    for data in campaign.corpus_of("takeover"):
        packets, _ = TARGETS["takeover"](data)
        assert "refused" not in packets
    for data in campaign.corpus_of("rows"):
        broken, _, unread = TARGETS["rows"](data)
        assert (broken, unread) == ("", "")
    found = [TARGETS["expect"](data) for data in campaign.corpus_of("expect")]
    assert all(answered for answered, *_ in found)
