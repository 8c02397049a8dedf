"""Wrong arguments of the benchmark end it before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.macro.__main__ import parse_arguments


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--case", "nonsense"], "no such case: nonsense"),
        (["--targets", "direct,odyssey"], "no such target: odyssey"),
        (["--rounds", "0"], "at least 1"),
        (["--workers", "65"], "--workers must be at most 64"),
        (["--workers", "2", "--case", "idle-memory"], "none of these cases can be spread"),
        (["--out", "/no/such/folder/report.md"], "/no/such/folder/report.md cannot be written"),
        (["--out", "/"], "/ cannot be written"),
    ],
)
def test_what_cannot_be_measured_or_written_is_told_at_once(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(given)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_report_may_go_to_a_new_file_and_to_one_that_is_there(tmp_path: Path) -> None:
    fresh, old = tmp_path / "fresh.md", tmp_path / "old.md"
    old.write_text("before")
    for out in (fresh, old):
        assert parse_arguments(["--out", str(out)]).out == out
    assert old.read_text() == "before"
    assert not fresh.exists()
