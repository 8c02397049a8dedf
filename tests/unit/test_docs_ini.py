"""Every configuration on our pages is one: it can be copied as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgpool_core.config import load_config
from tests.pages import FENCED
from tests.programs import ROOT

ENVIRON = {"DB_HOST": "10.0.0.5", "REPORTS_PASSWORD": "secret", "BILLING_URL": "postgres://app:secret@10.0.0.5/app"}
UNITS = ("[Unit]", "[Service]")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCKS = [
    pytest.param(kind, text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(FENCED.findall(page.read_text()))
    if kind in ("ini", "toml") and not text.startswith(UNITS)
]


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_a_configuration_of_the_pages_can_be_read(
    kind: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    for name in re.findall(r"file:/run/secrets/(\w+)", text):
        tmp_path.joinpath(name).write_text("secret\n")
    text = text.replace("/run/secrets", str(tmp_path))
    path = tmp_path / f"page.{kind}"
    path.write_text(text if re.search(r"^\[", text, re.MULTILINE) else f"[pgbouncer]\n{text}")
    load_config(path)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_no_value_of_the_pages_has_a_comment_behind_it(kind: str, text: str) -> None:
    """In an ini `;` and `#` begin a comment at the beginning of a line only; behind a value they belong to it."""
    if kind == "ini":
        assert not re.findall(r"^[^;#\n].*[ \t][;#].*$", text, re.MULTILINE)


def test_there_are_configurations() -> None:
    assert len(BLOCKS) >= 10
