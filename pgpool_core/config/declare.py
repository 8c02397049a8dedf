"""Declares an attribute of the configuration with all that is known about the setting, and checks its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import attrs

from pgpool_core.config.problems import Place, invalid_value, not_supported_value
from pgpool_core.config.units import Kind, NotBuilt
from pgpool_core.errors import ConfigProblem


def setting(default: object, kind: Kind, meaning: str, *, reload: bool = True) -> Any:
    """Declare a field with what SHOW CONFIG, the reader and the manual need to know about it."""
    secret = bool(getattr(kind, "secret", False))
    metadata = {"kind": kind, "meaning": meaning, "reload": reload}
    return attrs.field(default=default, metadata=metadata, repr=not secret)


def checked(instance: attrs.AttrsInstance, place: Place) -> Iterator[ConfigProblem]:
    """Check each field with its kind, write back what the kind made of it, yield what it refused."""
    for field in attrs.fields(type(instance)):
        kind: Kind | None = field.metadata.get("kind")
        value = getattr(instance, field.name)
        if kind is None or (value is None and field.default is None):
            continue
        try:
            object.__setattr__(instance, field.name, kind.check(value))
        except NotBuilt:
            yield not_supported_value(place, field.name, value, kind)
        except ValueError:
            yield invalid_value(place, field.name, value, kind)


def kind_of(field: attrs.Attribute[Any]) -> Kind | None:
    """The kind that a field was declared with; None for `databases`, `users` and `peers`."""
    return cast("Kind | None", field.metadata.get("kind"))
