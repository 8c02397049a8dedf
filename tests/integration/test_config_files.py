"""The same file read by PgBouncer and by us: what both accept means the same, and each difference is one that somebody chose."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pgpool_core.config import SETTINGS, Config, ConfigError, describe, load_config
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.testing import PoolerProcess, find_pgbouncer
from pgpool_core.testing.pooler import Kind
from tests.console import Console
from tests.programs import pgbouncer_before

pytestmark = [
    pytest.mark.pgbouncer,
    pytest.mark.skipif(find_pgbouncer() is None, reason="PgBouncer is not installed here (apt-get install pgbouncer)"),
]

Files = Mapping[str, str]
Shown = tuple[dict[str, str], dict[str, tuple[Any, ...]]]

COMPARED = (
    "max_client_conn",
    "log_stats",
    "server_lifetime",
    "pool_mode",
    "server_check_query",
    "server_reset_query",
    "verbose",
    "logfile",
)
"""Settings whose values are compared after each file."""

ACCEPTED: Mapping[str, tuple[str, Files]] = {
    "hexadecimal": ("max_client_conn = 0x20", {}),
    "octal": ("max_client_conn = 010", {}),
    "a sign": ("max_client_conn = +10", {}),
    "the last of two": ("max_client_conn = 10\nmax_client_conn = 20", {}),
    "a boolean with zeros": ("log_stats = 0", {}),
    "a boolean above one": ("log_connections = 2", {}),
    "the value of a flag that the documentation has": ("tcp_defer_accept = 45", {}),
    "more verbose than there is to tell": ("verbose = 9", {}),
    "a fraction": ("server_lifetime = 0.5", {}),
    "a fraction alone": ("server_lifetime = .5", {}),
    "an exponent": ("server_lifetime = 1e2", {}),
    "a hexadecimal time": ("server_lifetime = 0x10", {}),
    "a word in capitals": ("pool_mode = TRANSACTION", {}),
    "an empty text": ("server_check_query =", {}),
    "blanks around": ("  verbose\t=  1  ", {}),
    "a carriage return": ("verbose = 1\r", {}),
    "comments": ("# one\n; two\n\t; three\nverbose = 1\n[databases]\n#x = port=1", {}),
    "no comment behind a value": ("server_reset_query = 'a' ; b # c", {}),
    "a value with blanks": ("logfile = a b", {}),
    "a section again": ("[databases]\na = port=1\n[users]\n[databases]\nb = port=2", {}),
    "text behind a section": ("[databases] a = port=1\nb = port=2", {}),
    "an entry without pairs": ("[databases]\na =", {}),
    "quotes in an entry": ("[databases]\na = port=1 dbname='a b' user=u password='it''s'", {}),
    "blanks in an entry": ("[databases]\na = port = 1 dbname =y", {}),
    "an entry twice": ("[databases]\na = host=h pool_size=3\na = port=2", {}),
    "zeros before a number in an entry": ("[databases]\na = port=05432 pool_size=010", {}),
    "a pair twice": ("[databases]\na = host=h port=1 port=2", {}),
    "a mark that is no comment": ("[databases]\na = host=h;port=2", {}),
    "a mode in an entry": ("[databases]\na = pool_mode=Statement pool_size=7", {}),
    "dots, dashes and stars": ("[databases]\na.b-c_9* = port=1", {}),
    "a user": ("[users]\nu = pool_mode=session max_user_connections=3", {}),
    "an include": ("%include b.ini", {"b.ini": "verbose = 2\n"}),
    "an include with blanks": ("  %include   sub/b.ini  ", {"sub/b.ini": "verbose = 2\n"}),
    "an include relative to the working directory": (
        "%include sub/b.ini",
        {"sub/b.ini": "%include c.ini\n", "c.ini": "verbose = 2"},
    ),
    "a section out of an include": ("%include b.ini\na = port=1", {"b.ini": "[databases]\n"}),
    "includes ten deep": (
        "%include 1.ini",
        {**{f"{n}.ini": f"%include {n + 1}.ini" for n in range(1, 10)}, "10.ini": "verbose = 2"},
    ),
}

REFUSED: Mapping[str, tuple[str, Files]] = {
    "an empty number": ("max_client_conn =", {}),
    "a comment behind a number": ("max_client_conn = 10 ; ten", {}),
    "an empty boolean": ("log_stats =", {}),
    "a negative time": ("server_lifetime = -1", {}),
    "an empty word": ("pool_mode =", {}),
    "a quoted number": ("verbose = '1'", {}),
    "a setting in capitals": ("VERBOSE = 1", {}),
    "a setting that nobody knows": ("nonsense = 1", {}),
    "no value": ("verbose", {}),
    "no sign between": ("verbose 1", {}),
    "no key": ("= 1", {}),
    "a section that nobody knows": ("[nonsense]", {}),
    "a section in capitals": ("[Databases]", {}),
    "the console as an entry": ("[databases]\npgbouncer = host=h", {}),
    "an empty value in an entry": ("[databases]\na = port=1 dbname=", {}),
    "an open quote": ("[databases]\na = host='h", {}),
    "a comment behind an entry": ("[databases]\na = host=h ; note", {}),
    "a key that no entry has": ("[databases]\na = target=primary", {}),
    "a quoted key in an entry": ("[databases]\na = 'port'=1", {}),
    "an unknown mode in an entry": ("[databases]\na = pool_mode=fast", {}),
    "a continued line": ("[databases]\na = host=h\\\n port=2", {}),
    "an empty value of a user": ("[users]\nu = pool_mode=", {}),
    "a missing include": ("%include none.ini", {}),
    "a quoted include": ("%include 'b.ini'", {"b.ini": ""}),
    "an include without a blank": ("%includeb.ini", {"b.ini": ""}),
    "includes eleven deep": (
        "%include 1.ini",
        {**{f"{n}.ini": f"%include {n + 1}.ini" for n in range(1, 11)}, "11.ini": "verbose = 2"},
    ),
}

ONLY_OURS: Mapping[str, tuple[str, Files]] = {
    "a boolean in words": ("log_stats = off", {}),
    "a time with a unit": ("server_lifetime = 5min", {}),
    "a size with a unit": ("max_packet_size = 64kB", {}),
    "a key in single quotes": ("[databases]\n'odd name' = port=1", {}),
    "a key in double quotes": ('[databases]\n"odd name" = port=1', {}),
    "a url": ("[databases]\na = postgres://u@h:1/d", {}),
    "a tab between pairs": ("[databases]\na = port=1\tdbname =y", {}),
    "a pattern of includes": ("%include *.inc", {"b.inc": "verbose = 2"}),
    "a byte order mark": ("%include b.ini", {"b.ini": "\ufeffverbose = 2"}),
    "a variable": ("verbose = ${PGPOOL_NONE:-2}", {}),
}

NEWEST = {"a key in single quotes"}
"""Those of them that PgBouncer takes from 1.26 on."""

ONLY_PGBOUNCERS: Mapping[str, tuple[str, Files]] = {
    "a negative number": ("max_client_conn = -1", {}),
    "a boolean below zero": ("log_stats = -1", {}),
    "an endless time": ("server_lifetime = inf", {}),
    "text behind a number in an entry": ("[databases]\na = port=5432x", {}),
    "no number in an entry": ("[databases]\na = pool_size=many", {}),
    "permissions without a zero": ("unix_socket_mode = 777", {}),
}


def write(process: PoolerProcess, files: Files) -> None:
    process.write()
    for name, text in files.items():
        path = process.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def made(kind: Kind) -> PoolerProcess:
    settings = {"admin_users": "admin", "pool_mode": "transaction", "server_check_query": "select 1"}
    databases = {"base": "host=127.0.0.1"}
    return PoolerProcess(kind=kind, databases=databases, passwords={"admin": "secret"}, settings=settings)


@pytest.fixture
def theirs() -> Iterator[PoolerProcess]:
    """A PgBouncer that is not started yet."""
    process = made("pgbouncer")
    yield process
    process.close()


def as_pgbouncer(process: PoolerProcess, tail: str, files: Files) -> Shown | str:
    """What PgBouncer makes of a file; the last line of its log where it refuses it."""
    process.ini_tail = tail
    write(process, files)
    process.spawn()
    process.process.wait_for_log("process up|cannot load config file")
    if "cannot load config file" in process.log:
        return process.log.splitlines()[-1]
    with Console(process) as console:
        settings = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
        databases = {
            row["name"]: (row["host"], row["port"], row["database"], row["force_user"], row["pool_size"])
            for row in console.rows("SHOW DATABASES")
            if row["name"] not in ("pgbouncer", "base")
        }
        modes = {row["name"]: row["pool_mode"] for row in console.rows("SHOW DATABASES")}
    return (
        {name: settings[name] for name in COMPARED},
        {name: (*shown, modes[name] or None) for name, shown in databases.items()},
    )


def as_ours(config: Config) -> Shown:
    """What we make of it, in PgBouncer's words."""
    return (
        {name: SETTINGS[name].show(getattr(config, name)) or "" for name in COMPARED},
        {
            name: (
                entry.host,
                entry.port,
                entry.dbname or name,
                entry.user,
                config.default_pool_size if entry.pool_size is None else entry.pool_size,
                entry.pool_mode,
            )
            for name, entry in config.databases.items()
            if name != "base"
        },
    )


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`ours(tail, files)`: the Config of the same file, or the ConfigError."""
    process = made("pgpool_core")
    monkeypatch.chdir(process.folder)

    def load(tail: str, files: Files) -> Config | ConfigError:
        process.ini_tail = tail
        write(process, files)
        try:
            return load_config(process.ini, environ={})
        except ConfigError as error:
            return error

    yield load
    os.chdir(tmp_path)
    process.close()


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_pgbouncer_accepts_means_the_same_to_us(case: str, theirs: PoolerProcess, ours: Any) -> None:
    shown = as_pgbouncer(theirs, *ACCEPTED[case])
    assert not isinstance(shown, str), shown
    config = ours(*ACCEPTED[case])
    assert isinstance(config, Config), config
    assert as_ours(config) == shown


@pytest.mark.parametrize("section", ["databases", "users"])
def test_minus_one_is_no_timeout_of_an_entry(section: str, theirs: PoolerProcess, ours: Any) -> None:
    tail = f"[{section}]\na = query_wait_timeout=-1"
    if not pgbouncer_before(1, 26):
        assert not isinstance(as_pgbouncer(theirs, tail, {}), str)
    config = ours(tail, {})
    assert isinstance(config, Config), config
    assert getattr(config, section)["a"].query_wait_timeout is None


@pytest.mark.parametrize("case", REFUSED)
def test_what_pgbouncer_refuses_we_refuse(case: str, theirs: PoolerProcess, ours: Any) -> None:
    assert isinstance(as_pgbouncer(theirs, *REFUSED[case]), str)
    assert isinstance(ours(*REFUSED[case]), ConfigError)


@pytest.mark.parametrize("case", ONLY_OURS)
def test_what_only_we_accept(case: str, theirs: PoolerProcess, ours: Any) -> None:
    assert isinstance(as_pgbouncer(theirs, *ONLY_OURS[case]), str) != (case in NEWEST and not pgbouncer_before(1, 26))
    assert isinstance(ours(*ONLY_OURS[case]), Config)


@pytest.mark.parametrize("case", ONLY_PGBOUNCERS)
def test_what_only_pgbouncer_accepts(case: str, theirs: PoolerProcess, ours: Any) -> None:
    assert not isinstance(as_pgbouncer(theirs, *ONLY_PGBOUNCERS[case]), str)
    assert isinstance(ours(*ONLY_PGBOUNCERS[case]), ConfigError)


def test_a_second_section_of_settings_goes_on_where_pgbouncer_begins_anew(theirs: PoolerProcess, ours: Any) -> None:
    theirs.ini_tail = (
        f"max_client_conn = 77\n[pgbouncer]\nlisten_addr = {theirs.host}\nlisten_port = {theirs.port}\n"
        f"unix_socket_dir = {theirs.unix_dir}\nauth_file = {theirs.folder}/userlist.txt\nadmin_users = admin\n"
    )
    theirs.start()
    with Console(theirs) as console:
        shown = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
    assert shown["max_client_conn"] == "100"
    assert ours("max_client_conn = 77\n[pgbouncer]\nverbose = 1", {}).max_client_conn == 77


OLDER = {
    *("auth_query", "server_check_query", "client_tls_ciphers", "server_tls_ciphers", "server_tls_sslmode", "verbose"),
}
"""Settings whose default was another one before 1.25, or is not shown."""


def test_every_setting_that_pgbouncer_shows_is_known_with_its_default(theirs: PoolerProcess) -> None:
    theirs.start()
    with Console(theirs) as console:
        shown = {row["key"]: row for row in console.rows("SHOW CONFIG")}
    ours = {row.key: row for row in describe(Config())}
    assert shown.keys() <= ours.keys()
    for name, row in shown.items():
        default = row["default"] or ""
        if name in OLDER:
            continue
        if name in NOT_BUILT:
            assert NOT_BUILT[name].asks_for_nothing(default), name
            continue
        setting = SETTINGS[name]
        assert (setting.show(setting.default) or "") == default or f"PgBouncer has {default}" in setting.meaning, name
        assert setting.reloadable or row["changeable"] == "no", name
        if not pgbouncer_before(1, 26):
            assert (row["default"] is None) == (ours[name].default is None), name
