"""Django in transaction mode as it is: persistent connections, cursors on the server, a time zone set at connect."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Target
from tests.programs import run

SITE = Path(__file__).parents[1] / "clients" / "django_site.py"


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
@pytest.mark.pooler(default_pool_size=2)
@pytest.mark.parametrize("scenario", ["iterators", "held_iterator", "savepoints", "zones", "bound"])
def test_a_site(target: Target, scenario: str) -> None:
    run(sys.executable, SITE, target.host, str(target.port), scenario)
