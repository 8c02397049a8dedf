"""The programs on our pages: what stands there is what is run."""

from __future__ import annotations

import re

from tests.programs import ROOT

__all__ = ["FENCED", "PAGES", "URL", "programs"]

URL = "postgresql://app:secret@10.0.0.5/app"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = ("README.md", "docs/embedding.md", "docs/quickstart.md", "docs/pool.md")

_OF_TESTS = "def test_"  # test_pytest_plugin runs these
_OF_GUNICORN = "def on_starting"  # and test_examples these


def programs(page: str) -> list[str]:
    """Its Python programs that run as they are."""
    found = [text for kind, text in FENCED.findall((ROOT / page).read_text()) if kind == "python"]
    return [text for text in found if _OF_TESTS not in text and _OF_GUNICORN not in text]
