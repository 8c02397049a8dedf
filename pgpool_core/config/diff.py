"""What RELOAD may change: which new values come into force, and which wait for a restart.

Source: PgBouncer docs, "Configuration" (settings that are not reloadable keep their value). PgBouncer keeps silent about those; here
each is a warning.
"""

from __future__ import annotations

import attrs

from pgpool_core.config.model import Config
from pgpool_core.config.settings import SETTINGS


@attrs.frozen(kw_only=True)
class Reloaded:
    """A new configuration, cut down to what a running pooler can take over."""

    config: Config
    """What is in force from now on: the new one, with old values where only a restart can change them."""
    changed: tuple[str, ...]
    """Settings of [pgbouncer] that have a new value now, by name."""
    waiting: tuple[str, ...]
    """Settings that were changed in the file and keep their old value, by name."""
    warnings: tuple[str, ...]
    """One line for each of `waiting`, for the log."""


def reload_config(old: Config, new: Config) -> Reloaded:
    """Compare the configuration in force with the one that was just read. [databases] and [users] are taken over as they are."""
    different = [name for name in sorted(SETTINGS) if getattr(old, name) != getattr(new, name)]
    waiting = tuple(name for name in different if not SETTINGS[name].reloadable)
    kept = {name: getattr(old, name) for name in waiting}
    return Reloaded(
        config=attrs.evolve(new, **kept) if kept else new,
        changed=tuple(name for name in different if SETTINGS[name].reloadable),
        waiting=waiting,
        warnings=tuple(
            f"{_shown(name, kept[name])} stays until a restart, although the configuration now says"
            f" {_shown(name, getattr(new, name))} ({name})"
            for name in waiting
        ),
    )


def _shown(name: str, value: object) -> str:
    text = SETTINGS[name].show(value)
    return f'"{text}"' if text else "an empty value"
