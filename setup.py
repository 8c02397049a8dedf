"""Extension modules only; everything else about the project stands in pyproject.toml.

Every `pyx/pgpool_core/**/*.pyx` becomes the compiled module of the same dotted name, built into the Python package tree.

Environment:
    PGPOOL_CORE_DEBUG=1    bounds checks, invariant checks at each unlock of a pool, no optimisation
    PGPOOL_CORE_PROBES=1   also build the doors of tests/probes/*.pyx (modules `pgpool_core_probes.*`)
    PGPOOL_CORE_SANITIZE=  address: with AddressSanitizer and UndefinedBehaviorSanitizer; thread: with ThreadSanitizer
    PGPOOL_CORE_JOBS=N     compile N modules at once (default: the number of processors)
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
PYX = Path("pyx")
DEBUG = os.environ.get("PGPOOL_CORE_DEBUG") == "1"
PROBES = os.environ.get("PGPOOL_CORE_PROBES") == "1"
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
SANITIZE = SANITIZERS[os.environ["PGPOOL_CORE_SANITIZE"]] if os.environ.get("PGPOOL_CORE_SANITIZE") else None
JOBS = int(os.environ.get("PGPOOL_CORE_JOBS") or os.cpu_count() or 1)

compile_args = ["-O0", "-g"] if DEBUG else ["-O3", "-g1"]
link_args: list[str] = []
if SANITIZE:
    flags = [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
    compile_args, link_args = flags, flags[:1]


def extension(name: str, path: Path) -> Extension:
    return Extension(
        name,
        [path.as_posix()],
        libraries=["crypto"],
        include_dirs=[PYX.as_posix()],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=[("PGPOOL_CORE_DEBUG", "1" if DEBUG else "0")],
    )


def modules() -> list[Extension]:
    os.chdir(ROOT)
    found = [extension(".".join(p.relative_to(PYX).with_suffix("").parts), p) for p in sorted(PYX.rglob("*.pyx"))]
    if PROBES:
        found += [extension(f"pgpool_core_probes.{p.stem}", p) for p in sorted(Path("tests/probes").glob("*.pyx"))]
    return found


setup(
    ext_modules=cythonize(
        modules(),
        include_path=[PYX.as_posix()],
        nthreads=JOBS if JOBS > 1 else 0,
        language_level=3,
        compiler_directives={
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
    options={"build_ext": {"parallel": JOBS}},
)
