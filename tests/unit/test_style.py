"""House rules that a machine can read, beside the linters (`make lint`): no sleeping, stubs for what is compiled, types on the pages."""

from __future__ import annotations

import ast
import importlib
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pages import PAGES, programs
from tests.programs import ROOT, run

PYX = sorted((ROOT / "pyx").rglob("*.pyx"))
CYTHON = sorted([*PYX, *(ROOT / "pyx").rglob("*.pxd"), *(ROOT / "tests" / "probes").glob("*.pyx")])


def test_the_programs_on_the_pages_have_the_types_that_they_claim(tmp_path: Path) -> None:
    paths = []
    for page in PAGES:
        for number, text in enumerate(programs(page)):
            paths.append(tmp_path / f"{Path(page).stem}_{number}.py")
            paths[-1].write_text(text)
    run(sys.executable, "-m", "mypy", *paths, cwd=ROOT)


def sleeps(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of any `sleep` that may take time: not trio.sleep(0), which is a checkpoint, and not sleep_forever."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "sleep" and not (len(node.args) == 1 and ast.unparse(node.args[0]) == "0"):
            yield node


def test_a_sleep_is_found() -> None:
    assert len(list(sleeps(ast.parse("import time\ntime.sleep(1)\nsleep(x)\nawait trio.sleep(0)")))) == 2


def test_no_test_sleeps() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for call in sleeps(ast.parse(path.read_text()))
    ]
    assert not found, "wait for an event instead"


def module_name(pyx: Path) -> str:
    return ".".join(pyx.relative_to(ROOT / "pyx").with_suffix("").parts)


def stub_names(stub: Path) -> set[str]:
    names = set[str]()
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_there_is_something_compiled() -> None:
    assert PYX


@pytest.mark.parametrize("pyx", PYX, ids=module_name)
def test_a_compiled_module_says_its_types(pyx: Path) -> None:
    """Every name that Python can see stands in the .pyi, and nothing else does. A module without such names needs none."""
    name = module_name(pyx)
    module = importlib.import_module(name)
    visible = {
        public
        for public, value in vars(module).items()
        if not public.startswith("_") and getattr(value, "__module__", None) == name
    }
    stub = (ROOT / pyx.relative_to(ROOT / "pyx")).with_suffix(".pyi")
    if not visible and not stub.exists():
        return
    assert stub.exists(), f"{stub.relative_to(ROOT)} is missing; Python sees {sorted(visible)}"
    typed = stub_names(stub)
    assert visible <= typed
    assert all(hasattr(module, named) for named in typed), sorted(typed - set(dir(module)))


@dataclass
class Cimports:
    """What a Cython file takes from others, and what it mentions besides; comments and texts do not count."""

    taken: dict[str, tuple[str, str]]  # name here: module, and name there
    mentioned: set[str]

    def unused(self) -> set[str]:
        return {name for name in self.taken if name not in self.mentioned}


def cimports(text: str) -> Cimports:
    found = Cimports({}, set())
    line: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NAME, tokenize.OP):
            line.append(token.string)
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if "cimport" in line:
                take(line, found.taken)
            else:
                found.mentioned.update(line)
            line = []
    return found


def take(line: list[str], taken: dict[str, tuple[str, str]]) -> None:
    """One statement: `cimport a.b as c` or `from a.b cimport c, d as e`; `cimport *` names nothing."""
    at = line.index("cimport")
    source = "".join(line[1:at])
    for part in "".join(f" {word} " if word == "as" else word for word in line[at + 1 :]).strip("()").split(","):
        there, _, here = part.partition(" as ")
        if there and there != "*":
            taken[here or (there if source else there.split(".")[0])] = (source, there)


def test_an_unused_cimport_is_found() -> None:
    text = """
from libc.string cimport (memcpy, memset,
                          strlen as length)
from room.all cimport *
cimport cython
memcpy(a)  # memset
"""
    assert cimports(text).unused() == {"memset", "length", "cython"}


def test_nothing_is_cimported_for_nothing() -> None:
    """A .pxd may take a name to hand it on, if another file takes it from there."""
    files = {path: cimports(path.read_text()) for path in CYTHON}
    handed_on = {pair for file in files.values() for pair in file.taken.values()}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, file in files.items()
        for name in sorted(file.unused())
        if path.suffix != ".pxd" or (module_name(path), name) not in handed_on
    ]
    assert not found
