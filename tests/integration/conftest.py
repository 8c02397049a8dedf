"""Fixtures of the tests that compare poolers with each other rather than with a bare server."""

from __future__ import annotations

import pytest

from tests.conftest import PoolerFactory


@pytest.fixture(params=["pooler", "pgbouncer"])
def any_pooler(request: pytest.FixtureRequest) -> PoolerFactory:
    """The factory `pooler`, then the factory `pgbouncer`: for behaviour that only a pooler has and both should share."""
    factory: PoolerFactory = request.getfixturevalue(request.param)
    return factory


@pytest.fixture
def pgbouncers_way(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings for `any_pooler` with which ours does as PgBouncer does: nothing about session state."""
    return {} if request.node.callspec.params["any_pooler"] == "pgbouncer" else {"session_state": "off"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fixtures asked for by name are not seen by the markers of the main conftest."""
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and "any_pooler" in call.params:
            item.add_marker("postgres")
            if call.params["any_pooler"] == "pgbouncer":
                item.add_marker("pgbouncer")
