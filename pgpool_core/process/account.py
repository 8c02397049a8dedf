"""Who the process runs as: `user=` and -u.

Source: PgBouncer docs, `user`; credentials(7), initgroups(3): groups first, then the group, the user last, and then looked whether it holds.
"""

from __future__ import annotations

import os
import pwd

from pgpool_core.errors import ConfigError, ConfigProblem


def become(name: str) -> None:
    """Give up every right but those of the user `name`; nothing when that is who we are.

    Raises:
        ConfigError: there is no such user, or we may not.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise _problem(f"could not find user '{name}' to switch to (user)") from None
    if os.getresuid() == (entry.pw_uid,) * 3:
        return
    try:
        os.initgroups(name, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except OSError as error:
        raise _problem(f"failed to assume identity of user '{name}': {error.strerror} (user)") from error
    if os.getresuid() != (entry.pw_uid,) * 3 or os.getresgid() != (entry.pw_gid,) * 3:
        raise _problem(f"failed to assume identity of user '{name}' (user)")


def is_root() -> bool:
    return 0 in os.getresuid()


def _problem(text: str) -> ConfigError:
    return ConfigError([ConfigProblem(text, section="pgbouncer", key="user")])
