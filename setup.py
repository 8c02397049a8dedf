"""Extension modules only; everything else about the project stands in pyproject.toml.

Every `pyx/pgpool_core/**/*.pyx` becomes the compiled module of the same dotted name, built into the Python package tree.

Environment:
    PGPOOL_CORE_DEBUG=1    bounds checks, invariant checks at each unlock of a pool, no optimisation
    PGPOOL_CORE_PROBES=1   also build the doors of tests/probes/*.pyx (modules `pgpool_core_probes.*`)
    PGPOOL_CORE_SANITIZE=  address: with AddressSanitizer and UndefinedBehaviorSanitizer; thread: with ThreadSanitizer
    PGPOOL_CORE_URING=0    build without io_uring, also where liburing is there; 1: end with an error where it is not
    PGPOOL_CORE_JOBS=N     compile N modules at once (default: the number of processors)
"""

from __future__ import annotations

import os
import subprocess
import tempfile
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


LIBURING = """
#include <liburing.h>
int main(void) {
    struct io_uring ring;
    struct io_uring_sqe *sqe = 0;
    io_uring_prep_recv_multishot(sqe, 0, 0, 0, 0);
    return io_uring_queue_init(1, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
        + io_uring_register_buf_ring(&ring, 0, 0) + io_uring_submit_and_get_events(&ring) + io_uring_ring_dontfork(&ring);
}
"""


def has_liburing() -> bool:
    """Whether liburing 2.3 or later is there to be compiled and linked with; PGPOOL_CORE_URING says otherwise."""
    wanted = os.environ.get("PGPOOL_CORE_URING")
    if wanted == "0":
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text(LIBURING)
        command = [
            os.environ.get("CC", "cc"),
            *os.environ.get("CFLAGS", "").split(),
            str(source),
            "-o",
            f"{source}.out",
        ]
        found = subprocess.run([*command, "-luring"], capture_output=True, check=False).returncode == 0
    if wanted == "1" and not found:
        raise SystemExit("PGPOOL_CORE_URING=1: liburing 2.3 or later is not there (liburing-dev)")
    return found


URING = has_liburing()


def libraries(name: str) -> list[str]:
    if name.startswith("pgpool_core.tls."):
        return ["ssl", "crypto"]
    return ["crypto", "uring"] if URING and name == "pgpool_core.engine.io_uring" else ["crypto"]


def extension(name: str, path: Path) -> Extension:
    return Extension(
        name,
        [path.as_posix()],
        libraries=libraries(name),
        include_dirs=[PYX.as_posix()],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=[("PGPOOL_CORE_DEBUG", "1" if DEBUG else "0"), ("PGPOOL_CORE_URING", "1" if URING else "0")],
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
