"""node-postgres in transaction mode as it is: named queries, its pool, settings at connect, notifications."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Target
from tests.programs import node

SITE = Path(__file__).parents[1] / "clients" / "node_site.js"


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
@pytest.mark.pooler(default_pool_size=2)
def test_a_site(target: Target) -> None:
    node(SITE, target.host, str(target.port))
