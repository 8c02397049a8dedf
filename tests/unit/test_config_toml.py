"""The configuration as TOML: the same model, the same rules, lines found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpool_core.config import Config, ConfigError, DatabaseConfig, UserConfig, load_config

WHOLE = """
[pgpool_core]
listen_addr = ["127.0.0.1", "::1"]
listen_port = 6433
log_stats = false
server_lifetime = 1.5
query_wait_timeout = "30s"
admin_users = "a, b"
unix_socket_mode = "0700"
server_reset_query = ""

[databases.app]
host = ["10.0.0.5", "10.0.0.6"]
port = 5433
password = "${SECRET}"
reserve_pool = 3

[databases]
url = "postgres://u@h/d"
"odd name".host = "h"
pairs = "host=h port=7"

[users.batch]
pool_mode = "session"
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "pgpool-core.toml"
    path.write_text(text)
    return load_config(path, environ={"SECRET": "hunter2"})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [each.text.replace(f"{folder}/", "") for each in caught.value.problems]


def test_toml_says_what_an_ini_says(tmp_path: Path) -> None:
    assert load(tmp_path, WHOLE) == Config(
        databases={
            "app": DatabaseConfig(host="10.0.0.5,10.0.0.6", port=5433, password="hunter2", reserve_pool_size=3),
            "url": DatabaseConfig(host="h", user="u", dbname="d"),
            "odd name": DatabaseConfig(host="h"),
            "pairs": DatabaseConfig(host="h", port=7),
        },
        users={"batch": UserConfig(pool_mode="session")},
        listen_addr=("127.0.0.1", "::1"),
        listen_port=6433,
        log_stats=False,
        server_lifetime=1.5,
        query_wait_timeout=30.0,
        admin_users=("a", "b"),
        unix_socket_mode=0o700,
        server_reset_query="",
    )


def test_the_table_of_settings_may_be_called_as_in_an_ini(tmp_path: Path) -> None:
    assert load(tmp_path, "[pgbouncer]\nverbose = 2\n").verbose == 2


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    text = '''[pgpool_core]
listen_port = "x"
nonsense = 1
resolv_conf = "/x"
pool_mode = ["session"]
connect = 1979-05-27
server_check_query = """
port = 1
"""
verbose = -9

[databases.app]
port = 0

[databases]
bad = 5
"quoted \\u0041".pool_size = -1

[users.u]
nope = 1
[nonsense]
'''
    version = "is not supported by this version of pgpool_core"
    starts = [
        'invalid value "x" for parameter listen_port in configuration (pgpool-core.toml:2)',
        "unknown parameter: pgbouncer/nonsense (pgpool-core.toml:3)",
        f"setting resolv_conf {version} (pgpool-core.toml:4)",
        "invalid value for parameter pool_mode in configuration (pgpool-core.toml:5)",
        "invalid value for parameter connect in configuration (pgpool-core.toml:6)",
        'invalid value "-9" for parameter verbose in configuration (pgpool-core.toml:10)',
        'invalid value "0" for parameter port of database "app" in configuration (pgpool-core.toml:13)',
        'database "bad" is neither a table nor a text (pgpool-core.toml:16)',
        'invalid value "-1" for parameter pool_size of database "quoted A" in configuration (pgpool-core.toml:17)',
        'unrecognized connection parameter: nope of user "u" (pgpool-core.toml:20)',
        "unknown section: nonsense (pgpool-core.toml:21)",
    ]
    found = problems(tmp_path, text)
    assert len(found) == len(starts)
    for said, start in zip(found, starts, strict=True):
        assert said.startswith(start)


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, "[pgpool_core]\nx\n")[0].startswith(
        "syntax error in configuration (pgpool-core.toml:2): Expected '='"
    )
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_a_key_outside_of_a_table_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "verbose = 1\n") == ['"verbose" is outside of a table (pgpool-core.toml:1)']


def test_no_error_repeats_a_password(tmp_path: Path) -> None:
    for text in (
        '[databases.a]\npassword = ["hunter2"]\n',
        '[databases]\na = ["hunter2"]\n',
        '[databases.a]\npassword = "hunter2',
    ):
        assert "hunter2" not in "".join(problems(tmp_path, text))
