"""All compiled modules come from one shared object, each under its own name."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import pytest

import pgpool_core
import pgpool_core.engine
from pgpool_core import bundle, compiled
from tests.programs import ROOT, run

PACKAGE = Path(pgpool_core.__file__).parent
PYX = ROOT / "pyx"
NAMES = [".".join(path.relative_to(PYX).with_suffix("").parts) for path in sorted(PYX.rglob("*.pyx"))]
"""Of everything that is compiled; none where the tests have come without the sources."""


@pytest.mark.parametrize("name", [name for name in NAMES if name != bundle.__name__])
def test_a_compiled_module_comes_from_the_bundle(name: str) -> None:
    module = importlib.import_module(name)
    spec = module.__spec__
    assert spec is not None
    assert (module.__name__, spec.name, spec.parent) == (name, name, name.rpartition(".")[0])
    assert module.__file__ == spec.origin == bundle.__file__
    assert spec.has_location
    assert module.__loader__ is spec.loader is bundle.FINDER
    assert sys.modules[name] is module


@pytest.mark.parametrize("room", sorted({name.split(".")[1] for name in NAMES if name.count(".") > 1}))
def test_a_compiled_room_that_is_imported_first_finds_its_modules(room: str) -> None:
    assert "use_bundle()" in (PACKAGE / room / "__init__.py").read_text()


def test_modules_that_differ_only_in_their_room_are_two() -> None:
    one, other = (importlib.import_module(f"pgpool_core.{room}.server") for room in ("engine", "pool"))
    assert one is not other
    assert (one.__name__, other.__name__) == ("pgpool_core.engine.server", "pgpool_core.pool.server")


@pytest.mark.parametrize("name", ["pgpool_core.engine.no_such_module", "pgpool_core.no_such_module", "no_such_module"])
def test_what_the_bundle_has_not_got_is_not_found(name: str) -> None:
    assert bundle.FINDER.find_spec(name) is None
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(name)


def test_the_finder_is_installed_once_and_in_front_of_those_that_look_for_files() -> None:
    compiled.use_bundle()
    importlib.reload(compiled)
    importlib.reload(pgpool_core.engine)
    assert [finder for finder in sys.meta_path if isinstance(finder, bundle.Finder)] == [bundle.FINDER]
    assert sys.meta_path.index(bundle.FINDER) < sys.meta_path.index(PathFinder)


def test_a_compiled_module_that_is_reloaded_stays_what_it_is() -> None:
    memory = importlib.import_module("pgpool_core.engine.memory")
    trim = memory.trim
    assert importlib.reload(memory) is memory
    assert memory.trim is trim


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package, which as yet is not built."""
    return Path(
        shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("*.so", "__pycache__")),
    )


def run_with(package: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package.parent), **variables}
    return run(sys.executable, *arguments, env=environment, cwd=package.parent, may_fail=True)


def test_a_tree_that_is_not_built_says_so(copy: Path) -> None:
    done = run_with(
        copy, "-S", "-c", "import pgpool_core.engine.plane"
    )  # an editable install would be found by way of `site`
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: pgpool_core's compiled modules are not there")
    assert "pip install" in done.stderr


def test_what_needs_no_compiled_module_loads_none() -> None:
    done = run_with(PACKAGE, "-c", "import sys, pgpool_core; pgpool_core.parse_config; print(*sys.modules)")
    loaded = done.stdout.split()
    assert "pgpool_core.config.load" in loaded
    assert bundle.__name__ not in loaded


def test_a_file_that_an_earlier_build_has_left_is_not_loaded(copy: Path) -> None:
    assert bundle.__file__ is not None
    (copy / Path(bundle.__file__).name).symlink_to(bundle.__file__)
    (copy / "wire" / f"scan{EXTENSION_SUFFIXES[0]}").write_bytes(b"of an earlier build")
    done = run_with(copy, "-c", "import pgpool_core.wire.scan as scan; print(scan.__file__)")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).parent == copy


_TWICE = """
import sys
for _ in range(2):
    import pgpool_core.engine.plane, pgpool_core.rows.record
    print([type(each).__name__ for each in sys.meta_path].count("Finder"))
    for name in [each for each in sys.modules if each.partition(".")[0] == "pgpool_core"]:
        del sys.modules[name]
"""


def test_a_package_that_is_forgotten_and_imported_again_is_found_again() -> None:
    # Python forgets what it has allocated for a module that its loader hands out a second time, which is a leak of one byte.
    done = run_with(PACKAGE, "-c", _TWICE, ASAN_OPTIONS="detect_leaks=0")
    assert (done.stdout, done.stderr) == ("1\n1\n", "")
