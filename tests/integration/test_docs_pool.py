"""Every Python snippet of docs/pool.md runs as it stands there, against a server of ours."""

from __future__ import annotations

import pytest

from pgpool_core.client.pool import open_pool
from pgpool_core.testing import PostgresServer
from tests.pages import URL, programs
from tests.programs import ROOT, python

PAGE = (ROOT / "docs/pool.md").read_text()
SNIPPETS = programs("docs/pool.md")


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 6
    assert all(URL in snippet for snippet in SNIPPETS)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, postgres: PostgresServer) -> None:
    assert python("-c", SNIPPETS[number].replace(URL, postgres.dsn("app", "app"))).stdout


def test_every_argument_stands_in_the_table() -> None:
    import inspect

    table = PAGE.partition("## Arguments")[2]
    for name, parameter in inspect.signature(open_pool).parameters.items():
        row = next((line for line in table.splitlines() if f"`{name}`" in line and line.startswith("|")), None)
        assert row is not None, name
        if isinstance(parameter.default, float) and name != "min_size":
            assert f"{parameter.default:g}" in row
