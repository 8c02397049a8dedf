"""Single errors as themselves: the nurseries inside this library are nobody's business, so neither are their exception groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def sole_errors() -> AsyncIterator[None]:
    """Put it around one nursery: a group of a single error is raised as that error, its cause and context kept.

    Only the nursery's own group is opened; a group that somebody raised inside stays as it was. Several errors stay a group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # else it would be the group
            del error, context
