"""The syntax of pgbouncer.ini: what is a key, what is a value, and that no text does worse than a ConfigError."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgpool_core.config import Config, ConfigError, DatabaseConfig, PeerConfig, UserConfig, load_config, parse_config
from pgpool_core.config.ini import MAX_INCLUDE_DEPTH, IniValue, read_ini_text
from pgpool_core.config.leak_check import MAX_SAMPLE, LeakCheck
from pgpool_core.config.passwords import CommandLine
from pgpool_core.config.settings import DATABASE_KEYS, PEER_KEYS, SETTINGS, USER_KEYS
from pgpool_core.config.tls import Protocols
from pgpool_core.config.units import Choice, FileMode, Flag, Hosts, Integer, ListenAt, Names, Networks, Seconds


def pairs(text: str) -> list[tuple[str | None, str, str]]:
    """Section, key and value of each line; a problem fails the test."""
    items = list(read_ini_text(text, "f.ini", {}))
    return [(item.place.section, item.key, item.value) for item in items if isinstance(item, IniValue)]


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="f.ini")
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a=b", "a", "b"),
        ("  a\t = b ; not a comment # here ", "a", "b ; not a comment # here"),
        ("a.b-c_9* =", "a.b-c_9*", ""),
        ("'odd name' = x", "odd name", "x"),
        ('"odd name" = x', "odd name", "x"),
        ("'it''s' = x", "it's", "x"),
        ('"say ""hi""" = x', 'say "hi"', "x"),
        ("'[x]' = x", "[x]", "x"),
        ("'#x' = = x", "#x", "= x"),
        ("a = b\r", "a", "b"),
        ("a = [b]", "a", "[b]"),
    ],
)
def test_a_line_gives_its_key_and_its_value(line, key, value):
    assert pairs(f"[s]\n{line}\n") == [("s", key, value)]


def test_comments_blank_lines_and_a_byte_order_mark_say_nothing():
    assert pairs("\ufeff; one\n  # two\n\n \t \n[s]\n;x=y\n") == []


def test_text_may_follow_a_section_on_its_line_as_pgbouncer_has_it():
    assert pairs("[s] a = 1\n[t] ; comment\n  b=2\n[u][v] c=3") == [("s", "a", "1"), ("t", "b", "2"), ("v", "c", "3")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("a", "no = after the key"),
        ("a b = c", "no = after the key"),
        ("ä = c", "neither"),
        ("= c", "neither"),
        ("'a = c", "neither"),
        ("'' = c", "an empty key"),
        ("[pgbouncer", "a section without ]"),
        ("pool_mode = se\0ssion", "a zero byte"),
        ("logfile = \udce9", "not UTF-8"),
        ("%include", "neither"),
        ("%include ;x".replace(" ;x", " \t"), "neither"),
    ],
)
def test_a_broken_line_is_named_with_file_and_line(line, what):
    text = problem(f"[pgbouncer]\n\n{line}\nlisten_port = 1\n")
    assert text.startswith("syntax error in configuration (f.ini:3): ")
    assert what in text


def test_every_broken_line_is_told_and_not_only_the_first():
    with pytest.raises(ConfigError) as caught:
        parse_config("x\n[pgbouncer]\ny\nverbose = lots\n", file="f.ini")
    assert [each.line for each in caught.value.problems] == [1, 3, 4]


def test_a_key_before_the_first_section_is_refused():
    assert "before the first [section]" in problem("pool_mode = session\n")


def test_an_unknown_section_is_named_once_and_its_keys_are_passed_over():
    assert problem("[Databases]\na = x\nb = y\n") == "unknown section: Databases (f.ini:1)"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_included_file_is_read_in_place_and_sections_go_on_in_both_directions(folder):
    (folder / "a.ini").write_text("[pgbouncer]\nverbose = 1\n%include sub/b.ini\ndb1 = port=1\n")
    (folder / "sub").mkdir()
    (folder / "sub/b.ini").write_text("\ufeffverbose = 2\n[databases]\n")
    config = load_config("a.ini")
    assert config.verbose == 2
    assert config.databases == {"db1": DatabaseConfig(port=1)}


def test_a_missing_file_is_named_with_the_line_that_wants_it(folder):
    (folder / "a.ini").write_text("[pgbouncer]\n%include none.ini\n")
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "a.ini")
    assert f'"none.ini": No such file or directory ({folder}/a.ini:2)' in str(caught.value)
    with pytest.raises(ConfigError, match=r'^cannot load config file "none.ini": No such file or directory$'):
        load_config("none.ini")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(folder)


def test_includes_nest_ten_deep_and_no_deeper(folder):
    for depth in range(MAX_INCLUDE_DEPTH + 2):
        (folder / f"{depth}.ini").write_text(f"%include {depth + 1}.ini\n")
    (folder / f"{MAX_INCLUDE_DEPTH}.ini").write_text("[pgbouncer]\nverbose = 3\n")
    assert load_config("0.ini").verbose == 3
    (folder / f"{MAX_INCLUDE_DEPTH}.ini").write_text(f"%include {MAX_INCLUDE_DEPTH + 1}.ini\n")
    (folder / f"{MAX_INCLUDE_DEPTH + 1}.ini").write_text("")
    with pytest.raises(ConfigError, match="nested more than 10 deep"):
        load_config("0.ini")


def test_a_pattern_includes_what_matches_by_name_and_none_is_none_too(folder):
    (folder / "conf.d").mkdir()
    (folder / "conf.d/20-late.ini").write_text("verbose = 2\n")
    (folder / "conf.d/10-early.ini").write_text("[pgbouncer]\nverbose = 1\nmax_client_conn = 7\n")
    (folder / "conf.d/.hidden.ini").write_text("broken\n")
    (folder / "a.ini").write_text("%include conf.d/*.ini\n%include no.d/*.ini\n")
    config = load_config("a.ini")
    assert (config.verbose, config.max_client_conn) == (2, 7)


def test_a_file_that_is_called_like_a_pattern_goes_before_the_pattern(folder):
    (folder / "[a].ini").write_text("[pgbouncer]\nverbose = 1\n")
    (folder / "a.ini").write_text("[pgbouncer]\nverbose = 2\n")
    (folder / "main.ini").write_text("%include [a].ini\n")
    assert load_config("main.ini").verbose == 1


def test_a_path_of_an_include_may_stand_in_the_environment(folder):
    (folder / "a.ini").write_text("[pgbouncer]\nverbose = 1\n")
    (folder / "main.ini").write_text("%include ${WHERE}/a.ini\n")
    assert load_config("main.ini", environ={"WHERE": str(folder)}).verbose == 1
    with pytest.raises(ConfigError, match=r"%include: the environment variable WHERE is not set .* \(main\.ini:1\)"):
        load_config("main.ini", environ={})


def test_files_that_include_each_other_come_to_an_end(folder):
    (folder / "a.ini").write_text("%include b.ini\n" * 50)
    (folder / "b.ini").write_text("%include a.ini\n" * 50)
    with pytest.raises(ConfigError, match="includes itself"):
        load_config("a.ini")


def test_a_tree_of_includes_cannot_grow_without_bound(folder):
    for depth in range(MAX_INCLUDE_DEPTH):
        (folder / f"{depth}.ini").write_text(f"%include {depth + 1}.ini\n" * 8)
    (folder / f"{MAX_INCLUDE_DEPTH}.ini").write_text("")
    with pytest.raises(ConfigError, match="more than 1000 files"):
        load_config("0.ini")


TOKENS = st.sampled_from(
    [
        "[",
        "]",
        "[databases]",
        "[users]",
        "[pgbouncer]",
        "[peers]",
        "\n",
        "=",
        " ",
        "'",
        '"',
        ";",
        "#",
        "%include no-such-file",
        "\x00",
        "host",
        "password",
        "pool_mode",
        "session",
        "listen_port",
        "0x",
        "1e9",
        "-1",
        "09",
        "*",
        "pgbouncer",
        "�",
        "\ufeff",
        "é",
        "unix_socket_mode",
        "server_lifetime",
        "auth_type",
        "admin_users",
        ",",
        "pool_size",
        "user",
        "auth_user",
        "syslog",
        "\r",
        "${",
        "}",
        "$${HOME:-",
        "file:/",
        "postgres://",
        "30s",
        "kB",
    ]
)


@given(st.text(st.characters(exclude_categories=())) | st.lists(TOKENS, max_size=30).map("".join))
@example("[databases]\n" + "a" * 64 + "=")
@example("[pgbouncer]\nlisten_port = " + "9" * 5000)
@example("[pgbouncer]\nserver_lifetime = " + "9" * 400)
@example("[pgbouncer]\nlisten_port = ٣")
def test_any_text_is_a_config_or_a_config_error(text):
    try:
        config = parse_config(text)
    except ConfigError as error:
        assert error.problems
        assert str(error).count("\n") == len(error.problems) - 1
    else:
        assert isinstance(config, Config)


@given(st.binary())
def test_any_file_is_a_config_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.ini"
    path.write_bytes(content)
    try:
        load_config(path)
    except ConfigError as error:
        assert {each.file for each in error.problems} == {str(path)}


TOML_TOKENS = st.sampled_from(
    [*"[]{}\".=,\n' ", "databases", "pgpool_core", "users", "host", "a", "1", "true", '"""', "1979-05-27"]
)


@given(st.binary() | st.lists(TOML_TOKENS, max_size=40).map(lambda words: "".join(words).encode()))
def test_any_toml_is_a_config_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.toml"
    path.write_bytes(content)
    try:
        load_config(path)
    except ConfigError as error:
        assert {each.file for each in error.problems} == {str(path)}


# Round trip: a Config, written down by the rules of the manual, reads back as itself.

CLEAN = st.characters(exclude_categories=["Cs"], exclude_characters="\n\0")
NAME = st.text(CLEAN, min_size=1, max_size=15).filter(lambda name: name != "pgbouncer")
WORD = st.from_regex(r"[A-Za-z0-9_.*:-]{1,10}", fullmatch=True)
SECONDS = st.integers(0, 10**12).map(lambda us: us / 1_000_000)


def line_text() -> st.SearchStrategy[str]:
    return st.text(CLEAN, max_size=20).map(lambda text: text.strip(" \t\r\f\v"))


def values(setting) -> st.SearchStrategy[object]:
    """Values of a setting, every kind included; a new kind must be added here."""
    match setting.kind:
        case Flag():
            return st.booleans()
        case Integer(low=low, high=high):
            return st.integers(low, high)
        case LeakCheck():
            return st.integers(0, MAX_SAMPLE)
        case Protocols():
            return st.sampled_from(["secure", "all", "tlsv1.3", "tlsv1.2,tlsv1.3", "!tlsv1.0"])
        case FileMode():
            return st.integers(0, 0o777)
        case Seconds(positive=positive):
            return SECONDS.filter(lambda seconds: seconds > 0 or not positive)
        case Networks():
            networks = st.ip_addresses().map(str) | st.sampled_from(["unix", "10.0.0.0/8", "fd00::/8"])
            return st.lists(networks, max_size=3).map(lambda given: Networks().check(given))
        case Names():
            return st.lists(WORD, max_size=4).map(tuple)
        case Choice(words=words):
            return st.sampled_from(words)
        case ListenAt():
            return st.sampled_from(["", "*:1", "127.0.0.1:9127", "[::1]:65535", "db.example:80"])
        case CommandLine():
            return st.lists(WORD, min_size=1, max_size=3).map(" ".join)
        case Hosts():
            return st.lists(WORD, min_size=1, max_size=3).map(",".join)
        case _:
            texts = line_text().filter(bool) if setting.kind.filled else line_text()
            return texts.map(lambda text: text or None) if setting.kind.optional else texts


def some_of(table) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional={name: values(setting) for name, setting in table.items()})


@st.composite
def configs(draw) -> Config:
    return Config(
        databases={name: DatabaseConfig(**draw(some_of(DATABASE_KEYS))) for name in draw(st.sets(NAME, max_size=3))},
        users={name: UserConfig(**draw(some_of(USER_KEYS))) for name in draw(st.sets(NAME, max_size=2))},
        peers={
            number: PeerConfig(**{"host": "peer", **draw(some_of(PEER_KEYS))})
            for number in draw(st.sets(st.integers(1, 16383), max_size=2))
        },
        **draw(some_of(SETTINGS)),
    )


def quote(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark


def literal(text: str | None) -> str | None:
    return text and text.replace("${", "$${")


def entry(given, table) -> str:
    shown = {name: literal(setting.show(getattr(given, name))) for name, setting in table.items()}
    return " ".join(f"{name}={quote(text, chr(39))}" for name, text in shown.items() if text is not None)


def written(config: Config, mark: str) -> str:
    lines = ["[users]"]
    lines += [f"{quote(name, mark)} = {entry(user, USER_KEYS)}" for name, user in config.users.items()]
    lines += ["[databases]"]
    lines += [f"{quote(name, mark)} = {entry(db, DATABASE_KEYS)}" for name, db in config.databases.items()]
    lines += ["[peers]"]
    lines += [f"{number} = {entry(peer, PEER_KEYS)}" for number, peer in config.peers.items()]
    lines += ["[pgbouncer]"]
    lines += [f"{name} = {literal(setting.show(getattr(config, name))) or ''}" for name, setting in SETTINGS.items()]
    return "\n".join(lines)


def in_toml(text: str) -> str:
    plain = "".join(char if char.isascii() and char.isalnum() else f"\\U{ord(char):08x}" for char in text)
    return f'"{plain}"'


def as_toml(config: Config) -> str:
    lines = ["[pgpool_core]"]
    shown = {name: literal(setting.show(getattr(config, name))) for name, setting in SETTINGS.items()}
    lines += [f"{name} = {in_toml(text or '')}" for name, text in shown.items()]
    for section, table, entries in (
        ("databases", DATABASE_KEYS, config.databases),
        ("users", USER_KEYS, config.users),
        ("peers", PEER_KEYS, {str(number): peer for number, peer in config.peers.items()}),
    ):
        for name, made in entries.items():
            lines.append(f"[{section}.{in_toml(name)}]")
            shown = {key: literal(setting.show(getattr(made, key))) for key, setting in table.items()}
            lines += [f"{key} = {in_toml(text)}" for key, text in shown.items() if text is not None]
    return "\n".join(lines)


@given(configs())
def test_a_config_written_as_toml_reads_back_as_itself(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / f"round-{os.getpid()}.toml"
    path.write_text(as_toml(config))
    assert load_config(path) == config


@given(configs(), st.sampled_from("'\""))
def test_a_written_config_reads_back_as_itself(config, mark):
    assert parse_config(written(config, mark)) == config
