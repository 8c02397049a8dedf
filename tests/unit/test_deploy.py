"""The files under deploy/: what cannot be run here is read by the rules of its format, and by our own command line."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgpool_core.cli import COMMANDS, serve
from pgpool_core.cli import run as launcher
from pgpool_core.config import parse_config
from pgpool_core.config.env import docker as image
from pgpool_core.config.env import generate

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WORDS = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR"
INSTRUCTIONS = frozenset(WORDS.split())


def dockerfile() -> Iterator[tuple[str, str]]:
    """Instructions and their arguments, continued lines in one. Source: Dockerfile reference, "Format"."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, re.sub(r"\s+", " ", rest.strip())


def of(instruction: str) -> list[str]:
    return [rest for word, rest in dockerfile() if word == instruction]


def copied() -> list[str]:
    """What is copied from the source tree."""
    return [name for rest in of("COPY") if "--from" not in rest for name in rest.split()[:-1]]


def test_the_dockerfile_is_made_of_instructions_that_there_are() -> None:
    words = [word for word, _ in dockerfile()]
    assert words[0] == "FROM"
    assert set(words) <= INSTRUCTIONS
    assert (words.count("ENTRYPOINT"), words.count("FROM")) == (1, 2)


def test_the_image_is_made_from_official_ones_and_stages_that_exist() -> None:
    stages = [rest.split(" AS ") for rest in of("FROM")]
    assert all(re.fullmatch(r"python:3\.1\d-slim", base) for base, *_ in stages)
    names = {name for _, *name in stages for name in name}
    assert {*re.findall(r"from=(\w+)", " ".join(rest for _, rest in dockerfile()))} <= names


def test_the_image_does_not_run_as_root_and_ends_by_sigint() -> None:
    words = [word for word, _ in dockerfile()]
    (user,) = of("USER")
    assert user not in ("root", "0")
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert f"useradd --system --gid {user}" in of("RUN")[-1]
    assert of("STOPSIGNAL") == ["SIGINT"]


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == kept
    assert all((ROOT / name).exists() for name in copied())


def test_what_is_copied_is_what_the_build_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = set(re.findall(r'Path\("(\w+)[/"]', (ROOT / "setup.py").read_text())) - {"tests"}
    assert sources == {"pyx"}
    assert {"setup.py", "pyproject.toml", project["readme"], *project["license-files"], "pgpool_core", *sources} <= {
        *copied()
    }


def arguments_of(words: list[str]) -> Any:
    """What our command line makes of `words`; an error ends the test."""
    program, command, *rest = words
    assert program.rpartition("/")[2] == "pgpool-core"
    assert command in COMMANDS
    module = {"serve": serve, "run": launcher}[command]
    return module._parser().parse_args(rest)


def test_the_entry_of_the_image_and_its_health_check_are_commands() -> None:
    assert arguments_of(json.loads(of("ENTRYPOINT")[0])).from_env == "docker"
    assert of("EXPOSE") == [image.ALWAYS["LISTEN_PORT"]]
    code = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert code[:2] == ["python", "-c"]
    compile(code[2], "healthcheck", "exec")
    assert image.ALWAYS["LISTEN_PORT"] in code[2]
    assert f"--mode 0750 {image.FOLDER}" in of("RUN")[-1]


def test_the_variables_of_the_compose_file_make_a_configuration(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (the extra `test`)")
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = document["services"]
    assert set(services) == {"postgres", "pooler"}
    assert re.fullmatch(r"postgres:\d+", services["postgres"]["image"])
    build = services["pooler"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert set(services["pooler"]["depends_on"]) <= set(services)
    assert all(set(service["secrets"]) <= set(document["secrets"]) for service in services.values())
    environ = services["pooler"]["environment"]
    assert all(isinstance(value, str) for value in environ.values())
    assert environ["DB_PASSWORD"] == "file:" + services["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]
    (tmp_path / "password").write_text("secret\n")
    made = generate("docker", {**environ, "DB_PASSWORD": f"file:{tmp_path}/password"})
    assert made.users == {environ["DB_USER"]: "secret"}
    config = parse_config(made.ini(show_secrets=True))
    assert config.databases["app"].host in services
    assert services["pooler"]["ports"][0].endswith(f":{config.listen_port}")


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "pgpool-core.service")
    return parser


def test_the_unit_starts_checks_reloads_and_stops_us() -> None:
    service = unit()["Service"]
    assert arguments_of(shlex.split(service["ExecStart"])).file == "/etc/pgbouncer/pgbouncer.ini"
    checked = shlex.split(service["ExecStartPre"])
    assert checked[1:] == ["check", shlex.split(service["ExecStart"])[-1]]
    assert (service["Type"], service["KillSignal"]) == ("notify", "SIGINT")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_unit_lets_us_ask_for_our_own_addresses() -> None:
    """getifaddrs(3) asks by netlink: samenet and samehost."""
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} <= set(unit()["Service"]["RestrictAddressFamilies"].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "pgpool-core.service"
    path.write_text((DEPLOY / path.name).read_text().replace("/usr/local/bin/pgpool-core", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if path.name in line]
    assert said == []


def test_the_procfile_runs_its_commands_beside_poolers() -> None:
    lines = (DEPLOY / "Procfile").read_text().splitlines()
    assert lines
    for line in lines:
        name, _, command = line.partition(": ")
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        words = shlex.split(command)
        arguments = arguments_of(words)
        assert arguments.command == words[words.index("--") + 1 :]
