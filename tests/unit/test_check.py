"""`pgpool-core check`: every error and every doubt of a file, each with its place, and what the exit status makes of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import pgpool_core
from pgpool_core.cli import main
from pgpool_core.cli.check import check
from pgpool_core.config.doubts import ORDERS
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.settings import SETTINGS
from pgpool_core.process.descriptors import SPARE_DESCRIPTORS, raise_descriptor_limit

FINE = """[databases]
app = host=127.0.0.1
[pgbouncer]
listen_addr = 127.0.0.1
unix_socket_dir =
auth_file = userlist.txt
admin_users = admin
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test, with a userlist that nobody else may read, and something that is no pid file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero").write_text("0")
    userlist(tmp_path, '"admin" "secret"\n')
    return tmp_path


def userlist(folder: Path, text: str) -> None:
    path = folder / "userlist.txt"
    path.write_text(text)
    path.chmod(0o600)


def written(text: str) -> str:
    Path("p.ini").write_text(text)
    Path("p.ini").chmod(0o600)
    return "p.ini"


def errors(text: str) -> list[str]:
    return [str(problem) for problem in check(written(text)).errors]


def warnings(text: str) -> list[str]:
    found = check(written(text))
    assert not found.errors
    return [str(problem) for problem in found.warnings]


def warning(text: str) -> str:
    (only,) = warnings(text)
    return only


def test_a_file_without_a_fault_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--strict", written(FINE)]) == 0
    assert capsys.readouterr().out == "p.ini: 0 errors, 0 warnings\n"


def test_every_problem_of_the_file_and_of_what_it_names_is_told_in_one_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    userlist(folder, '"admin" "hunter2"\nbroken\n"x"\n')
    text = (
        FINE
        + "verbose = lots\nnonsense = 1\nmin_pool_size = 30\n[databases]\nb = port=0\n[users]\nu = pool_mode=fast\n"
    )
    assert main(["check", written(text)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 1)[0] for line in said] == [*["error"] * 6, "warning", "p.ini"]
    for place in ("p.ini:8", "p.ini:9", "p.ini:12", "p.ini:14", "userlist.txt:2", "userlist.txt:3", "p.ini:10"):
        assert sum(place in line for line in said) == 1
    assert "hunter2" not in "".join(said)
    assert said[-1] == "p.ini: 6 errors, 1 warning"


def test_warnings_alone_fail_only_a_strict_check(capsys: pytest.CaptureFixture[str]) -> None:
    file = written(FINE + "min_pool_size = 30\n")
    assert main(["check", file]) == 0
    assert main(["check", "--strict", file]) == 1


@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1:strict"])
def test_names_that_the_terminal_has_no_characters_for_are_shown_all_the_same(tmp_path: Path, encoding: str) -> None:
    """As where LANG is en_US.UTF-8, or en_US.ISO-8859-1."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.ini"
    with open(path, "w", encoding="utf-8") as file:
        file.write("[databases]\n'日本😀' = pool_mode=fast\n")
    command = [*(os.fsencode(word) for word in (sys.executable, "-m", "pgpool_core", "check")), path]
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(pgpool_core.__file__).parents[1])}
    lines = subprocess.run(command, env=env, capture_output=True, check=False)
    assert (lines.returncode, lines.stderr) == (1, b"")
    assert b".ini: 1 error, " in lines.stdout
    found = subprocess.run([*command, b"--json"], env=env, capture_output=True, check=False)
    assert (json.loads(found.stdout)["file"], found.stderr) == (os.fsdecode(path), b"")


def test_the_findings_may_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--json", written(FINE + "verbose = lots\nmin_pool_size = 30\n")])
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["errors"], said["warnings"]) == ("p.ini", 1, 1)
    first, second = said["problems"]
    assert {**first, "text": ""} == {
        "severity": "error",
        "text": "",
        "file": "p.ini",
        "line": 8,
        "section": "pgbouncer",
        "key": "verbose",
    }
    assert (second["severity"], second["line"], second["key"]) == ("warning", 9, "min_pool_size")


def test_a_file_that_is_not_there_is_one_error() -> None:
    found = check("none.ini")
    assert [str(problem) for problem in found.errors] == [
        'cannot load config file "none.ini": No such file or directory'
    ]
    assert not found.warnings


def test_a_toml_is_checked_like_an_ini() -> None:
    Path("p.toml").write_text('[pgpool_core]\nunix_socket_dir = ""\nlisten_addr = "127.0.0.1"\nauth_type = "trust"\n')
    found = check("p.toml")
    assert not found.errors
    assert str(found.warnings[0]).startswith("[databases] is empty")


def test_what_would_end_the_start_is_an_error() -> None:
    text = FINE.replace("listen_addr = 127.0.0.1\n", "").replace("app = host=127.0.0.1", "app = port=1")
    said = errors(text)
    assert len(said) == 2
    assert "unix_socket_dir is empty" in said[0]
    assert said[1].startswith("nothing to listen on")


def test_a_missing_auth_file_is_an_error_with_the_line_that_names_it(folder: Path) -> None:
    (folder / "userlist.txt").unlink()
    (said,) = errors(FINE)
    assert "auth_file userlist.txt: cannot be read: No such file or directory" in said
    assert "(p.ini:6)" in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("default_pool_size = 30\nmax_db_connections = 10", "(p.ini:9)"),
        ("max_user_connections = 10", "default_pool_size = 20 is more than max_user_connections = 10 allows"),
        ("max_client_conn = 10", "default_pool_size = 20 is more than max_client_conn = 10 allows"),
        ("min_pool_size = 30", "min_pool_size = 30 is more than default_pool_size = 20"),
        ("[databases]\nb = host=h pool_size=5 max_db_connections=3", 'database "b": pool_size = 5 is more than max_db'),
        ("[databases]\nb = host=h min_pool_size=30", 'database "b": min_pool_size = 30 is more than pool_size = 20'),
        (
            "[users]\nu = pool_size=9 max_user_connections=2",
            'user "u": pool_size = 9 is more than max_user_connections',
        ),
        ("reserve_pool_size = 5\nreserve_pool_timeout = 0", "the reserve is never opened"),
        ("reserve_pool_size = 5\nreserve_pool_timeout = 200", "before reserve_pool_timeout = 200 s opens the reserve"),
        ("query_wait_timeout = 5", "query_wait_timeout = 5 s is shorter than server_connect_timeout = 15 s"),
        ("client_login_timeout = 5", "client_login_timeout = 5 s is shorter than server_connect_timeout = 15 s"),
        ("[users]\nu = query_wait_timeout=5", 'user "u": query_wait_timeout = 5 s is shorter than'),
        (
            "query_wait_notify = 120",
            "query_wait_timeout = 120 s is as long as query_wait_notify = 120 s: the notice never comes",
        ),
        (
            "transaction_timeout = 5\nquery_timeout = 10",
            "transaction_timeout = 5 s is shorter than query_timeout = 10 s",
        ),
        ("query_timeout = 9\n[users]\nu = transaction_timeout=9", 'user "u": transaction_timeout = 9 s is as long as'),
        (
            "max_user_client_connections = 200",
            "max_user_client_connections = 200 is more than max_client_conn = 100 lets in",
        ),
        (
            "max_db_connections = 30\n[databases]\nb = host=h max_db_connections=0",
            'database "b": max_db_connections = 0 holds here; to PgBouncer it is as if unset, 30 (p.ini:10)',
        ),
        (
            "[databases]\nb = host=h server_lifetime=0",
            "server_lifetime = 0 holds here; to PgBouncer it is as if unset, 3600",
        ),
        ("server_idle_timeout = 10s", "server_idle_timeout = 10 s is shorter than server_check_delay = 30 s"),
        ("server_idle_timeout = 2h", "server_lifetime = 3600 s is shorter than server_idle_timeout = 7200 s"),
        ("pool_mode = transaction\nserver_reset_query = DISCARD ALL", "is not run in transaction and statement mode"),
        ("pool_mode = transaction\nserver_reset_query_always = 1", "runs after every transaction"),
        ("auth_type = any", 'database "app": auth_type = any lets nobody in here'),
        ("stats_users = admin, nobody", "so they cannot log in: nobody (stats_users)"),
        ("auth_file =", "nobody can log in: auth_type = md5 looks users up in auth_file, which is not set"),
        ("[pgbouncer]\nverbose = 1", "a second [pgbouncer] line: PgBouncer would forget the settings above it"),
    ],
)
def test_a_doubt_is_told(lines: str, said: str) -> None:
    assert said in warning(FINE + lines + "\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("logfile = none/x.log", "none/x.log cannot be written here: No such file or directory (logfile)"),
        ("logfile = .", ". cannot be written here: Is a directory (logfile)"),
        ("pidfile = none/x.pid", "none/x.pid cannot be written here: No such file or directory (pidfile)"),
        ("pidfile = userlist.txt", "the file holds no process number: userlist.txt (pidfile)"),
        ("pidfile = .", "cannot be written here: Is a directory (pidfile)"),
        ("pidfile = zero", "the file holds no process number: zero (pidfile)"),
        ("user = no-such-user", "there is no user no-such-user here (user)"),
        ("unix_socket_dir = none", "no socket can be made in none here: no such folder (unix_socket_dir)"),
        (f"unix_socket_dir = /tmp/{'x' * 110}", "is too long for a socket: at most 107 bytes (unix_socket_dir)"),
        (
            "unix_socket_dir = .\nunix_socket_group = no-such-group",
            "there is no group no-such-group (unix_socket_group)",
        ),
        ("listen_addr = no.such.host.invalid", "cannot resolve no.such.host.invalid: "),
        ("listen_addr = 10.0.0..1", "cannot resolve 10.0.0..1: "),
        ("metrics_listen = 10.0.0..1:9127", "cannot listen on 10.0.0..1:9127: "),
        ("listen_addr =\nlisten_port = 0\nunix_socket_dir = .", "a unix socket needs a listen_port other than 0"),
        ("metrics_listen = no.such.host.invalid:9127", "cannot listen on no.such.host.invalid:9127: "),
        ("server_tls_sslmode = verify-full\nserver_tls_ca_file = none", "none cannot be read: No such file"),
        ("server_tls_ciphers = NOSUCH", "NOSUCH: no cipher match (server_tls_ciphers)"),
        ("[databases]\nb = host=h sslmode=verify-full sslrootcert=none", 'database "b": none cannot be read'),
    ],
)
def test_what_keeps_it_from_starting_on_this_machine_is_an_error(lines: str, said: str) -> None:
    assert said in errors(FINE + lines + "\n")[0]


def test_nothing_is_made_or_removed(folder: Path) -> None:
    (folder / "pid").write_text("")  # stale: the start would remove it
    assert warnings(FINE + "logfile = log\npidfile = pid\nunix_socket_dir = .\n") == []
    assert sorted(path.name for path in folder.iterdir()) == ["p.ini", "pid", "userlist.txt", "zero"]


def test_that_one_of_the_names_to_listen_on_has_an_address_is_enough() -> None:
    assert warnings(FINE + "listen_addr = no.such.host.invalid, 127.0.0.1\n") == []


@pytest.mark.parametrize(
    "lines",
    [
        "auth_type = trust\nlisten_addr = 127.0.0.1, ::1, localhost",
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_reset_query =",
        "pool_mode = transaction\nserver_reset_query = DISCARD ALL\n[users]\nu = pool_mode=session",
        "server_lifetime = 60",
        "server_check_query =\nserver_idle_timeout = 5",
        "query_wait_timeout = 0",
        "default_pool_size = 0\nmax_db_connections = 5",
        "[users]\nu = pool_mode=session",
        "unix_socket_dir = @abstract",
    ],
)
def test_what_is_usual_raises_no_doubt(lines: str) -> None:
    assert warnings(FINE + lines + "\n") == []


def test_secrets_that_let_nobody_in_are_counted_and_not_shown(folder: Path) -> None:
    digits = "0123456789abcdef" * 2
    userlist(folder, '"admin" "secret"\n' + "".join(f'"u{n}" "md5{digits}"\n' for n in range(7)) + '"none" ""\n')
    said = warning(FINE + "auth_type = scram-sha-256\n")
    assert "auth_type = scram-sha-256 lets nobody in: u0, u1, u2, u3, u4 and 3 more" in said
    assert digits not in said
    assert "lets nobody in: none" in warning(FINE)


def test_files_with_passwords_that_everybody_may_read_are_named(folder: Path) -> None:
    (folder / "userlist.txt").chmod(0o644)
    file = Path(written(FINE.replace("host=127.0.0.1", "host=127.0.0.1 password=hunter2")))
    file.chmod(0o644)
    said = [str(problem) for problem in check("p.ini").warnings]
    assert said == [
        "every user of this machine may read userlist.txt (auth_file) (p.ini:6)",
        "every user of this machine may read the passwords in p.ini",
    ]


def test_every_time_of_the_table_of_orders_is_a_setting() -> None:
    known = SETTINGS.keys() | NOT_BUILT.keys()
    assert all({order.longer, order.shorter} <= known for order in ORDERS)


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """The limits of a process that has these; what is set is noted down."""
    noted = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: noted[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: noted.append(pair))
    return noted


def test_a_hard_limit_of_descriptors_that_is_too_low_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 256, 1000)
    text = FINE + "max_client_conn = 2000\n"
    needed = 2000 + 20 + SPARE_DESCRIPTORS
    assert f"may need {needed} file descriptors, of which this process may have 1000" in warning(text)
    limits(monkeypatch, 256, needed)
    assert warnings(text) == []


def test_serve_raises_the_soft_limit_by_itself_as_far_as_it_may(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(databases={"app": DatabaseConfig(host="h", pool_size=30)}, max_client_conn=2000)
    needed = 2000 + 30 + SPARE_DESCRIPTORS
    for soft, hard, after in (
        (256, 10_000, needed),
        (256, resource.RLIM_INFINITY, needed),
        (10_000, 10_000, 10_000),
        (256, 1000, 1000),
    ):
        noted = limits(monkeypatch, soft, hard)
        raise_descriptor_limit(config)
        assert noted[-1] == (after, hard)
    assert [record.getMessage() for record in caplog.records if "too few file descriptors" in record.getMessage()]


def test_the_line_that_decides_about_a_login_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hba").write_text("host app ann 10.0.0.0/8 md5\nlocal all all peer map=m\nhost all all all reject\n")
    ini = tmp_path / "p.ini"
    ini.write_text(f"[databases]\napp = host=h\n[pgbouncer]\nauth_type = hba\nauth_hba_file = {tmp_path}/hba\n")
    told = []
    for arguments in (["--from", "10.1.2.3"], [], ["--from", "192.0.2.1"]):
        status = main(["check", str(ini), "--login", "ann@app", *arguments])
        told.append((status, capsys.readouterr().out.strip().removeprefix(f"{tmp_path}/")))
    assert told == [(0, "hba:1: md5"), (0, "hba:2: peer map=m"), (1, "hba:3: reject")]
    (tmp_path / "hba").write_text("host replication all all md5\nhost all ann all pam\n")
    for arguments, line in ((["--replication"], "hba:1: md5"), ([], "hba:2: pam, which refuses: ")):
        main(["check", str(ini), "--login", "ann@app", "--from", "10.1.2.3", *arguments])
        assert capsys.readouterr().out.strip().removeprefix(f"{tmp_path}/").startswith(line)
    with pytest.raises(SystemExit):
        main(["check", str(ini), "--login", "ann@app", "--from", "somewhere"])


def test_lines_that_fit_nobody_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hba").write_text("hostgssenc all all all gss\nhostssl all all all md5\nhost all all all md5\n")
    ini = tmp_path / "p.ini"
    ini.write_text(f"[databases]\napp = host=h\n[pgbouncer]\nauth_type = hba\nauth_hba_file = {tmp_path}/hba\n")
    main(["check", str(ini)])
    lines = [line.partition("/hba:")[2] for line in capsys.readouterr().out.splitlines() if "/hba:" in line]
    assert [line.partition(",")[0] for line in lines] == ["1: hostgssenc fits nobody", "2: hostssl fits nobody"]


def test_what_only_a_server_knows_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pgpool_core.cli.which_line.confirmed_name", lambda at: {"10.1.2.3": "Web.example.org"}.get(str(at), "")
    )
    lines = (
        "host all +staff all md5",
        "hostssl all all all cert",
        "host samerole all web.example.org password",
        "host all all all reject",
    )
    (tmp_path / "hba").write_text("\n".join(lines))
    ini = tmp_path / "p.ini"
    ini.write_text(f"[databases]\napp = host=h\n[pgbouncer]\nauth_type = hba\nauth_hba_file = {tmp_path}/hba\n")

    def told(*arguments: str) -> tuple[int, list[str]]:
        status = main(["check", str(ini), "--login", "ann@app", *arguments])
        return status, [line.partition("hba:")[2] for line in capsys.readouterr().out.splitlines()]

    unsure = "if ann is a member of a role that the line names: only a server knows that (--roles tells it)"
    assert told("--from", "10.1.2.3") == (0, [f"1: md5, {unsure}", f"3: password, {unsure}", "4: reject"])
    assert told("--from", "10.9.9.9") == (0, [f"1: md5, {unsure}", "4: reject"])
    assert told("--from", "10.1.2.3", "--tls") == (0, [f"1: md5, {unsure}", "2: cert"])
    assert told("--from", "10.1.2.3", "--roles", "staff,x") == (0, ["1: md5"])
    assert told("--from", "10.1.2.3", "--roles", "app") == (0, ["3: password"])
    assert told("--from", "10.1.2.3", "--roles", "") == (1, ["4: reject"])
    warned = [problem.text for problem in check(str(ini)).warnings if "auth_user" in problem.text]
    assert [text.partition("hba:")[2].partition(":")[0] for text in warned] == ["1", "3"]


def test_lines_that_are_left_out_are_told(tmp_path: Path) -> None:
    (tmp_path / "hba").write_text("nonsense\nhost all all all pam\n")
    ini = tmp_path / "p.ini"
    ini.write_text(f"[databases]\napp = host=h\n[pgbouncer]\nauth_type = hba\nauth_hba_file = {tmp_path}/hba\n")
    texts = [problem.text for problem in check(str(ini)).warnings]
    assert any("line left out" in text for text in texts)
    assert any("method pam is not supported" in text for text in texts)


@pytest.mark.parametrize("auth_type", ["any", "trust", "plain"])
def test_a_listener_open_to_all_is_an_error_unless_it_is_wanted(tmp_path: Path, auth_type: str) -> None:
    ini = tmp_path / "p.ini"
    text = f"[databases]\napp = host=h user=x\n[pgbouncer]\nauth_type = {auth_type}\nlisten_addr = ::1, 10.0.0.1\n"
    ini.write_text(text)
    assert any("listen_addr 10.0.0.1" in problem.text for problem in check(str(ini)).errors)
    ini.write_text(text + "allow_open_auth = 1\n")
    assert check(str(ini)).errors == ()
