"""Extension modules only; everything else about the project stands in pyproject.toml.

Every `pyx/pgpool_core/**/*.pyx` is the compiled module of the same dotted name. All of them are linked into one shared object in
the Python package tree, `pgpool_core.bundle`, which knows them by these names.

Environment:
    PGPOOL_CORE_DEBUG=1    bounds checks, invariant checks at each unlock of a pool, no optimisation
    PGPOOL_CORE_PROBES=1   also build the doors of tests/probes/*.pyx (modules `pgpool_core_probes.*`)
    PGPOOL_CORE_SANITIZE=  address: with AddressSanitizer and UndefinedBehaviorSanitizer; thread: with ThreadSanitizer
    PGPOOL_CORE_URING=0    build without io_uring, also where liburing is there; 1: end with an error where it is not
    PGPOOL_CORE_JOBS=N     compile N modules at once (default: the number of processors)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext as BuildExt
from setuptools.modified import newer

ROOT = Path(__file__).parent
PYX = Path("pyx")
BUNDLE = "pgpool_core.bundle"
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


def extension(name: str, path: Path, libraries: list[str]) -> Extension:
    return Extension(
        name,
        [path.as_posix()],
        libraries=libraries,
        include_dirs=[PYX.as_posix()],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=[("PGPOOL_CORE_DEBUG", "1" if DEBUG else "0"), ("PGPOOL_CORE_URING", "1" if URING else "0")],
    )


def modules() -> list[Extension]:
    os.chdir(ROOT)
    libraries = ["ssl", "crypto", "uring"] if URING else ["ssl", "crypto"]
    names = {".".join(path.relative_to(PYX).with_suffix("").parts): path for path in sorted(PYX.rglob("*.pyx"))}
    found = [extension(name, path, libraries if name == BUNDLE else []) for name, path in names.items()]
    if PROBES:
        paths = sorted(Path("tests/probes").glob("*.pyx"))
        found += [extension(f"pgpool_core_probes.{path.stem}", path, ["crypto"]) for path in paths]
    return cythonize(
        found,
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
    )


MODULES = modules()
PARTS = [each for each in MODULES if each.name.startswith("pgpool_core.") and each.name != BUNDLE]
"""The modules that are linked into the bundle; the others are shared objects of their own."""


def init_function(name: str) -> str:
    """What the function that makes a part is called: Cython's name for it, PyInit_server, is that of two modules."""
    return f"PyInit_{name.replace('.', '_')}"


class build_ext(BuildExt):  # its options are looked for by the name of the class
    """Compiles the parts side by side, those that are older than their source, and has them linked into the bundle."""

    def build_extensions(self) -> None:
        objects = self.emptied_if_flags_differ(Path(self.build_temp, "parts"))
        table = objects / "bundle_parts.h"
        text = "".join(f'PART("{part.name}", {init_function(part.name)})\n' for part in PARTS)
        if not table.exists() or table.read_text() != text:
            table.write_text(text)
        with ThreadPoolExecutor(JOBS) as pool:
            compiled = [*pool.map(lambda part: self.object_of(part, objects), PARTS)]
        bundle = self.ext_map[BUNDLE]
        bundle.extra_objects, bundle.depends = compiled, [*compiled, str(table)]
        bundle.include_dirs.append(str(objects))
        super().build_extensions()
        bundle.depends = []  # or they would be listed among the sources

    def emptied_if_flags_differ(self, folder: Path) -> Path:
        """The folder of the object files, without those of another flavour or another Python."""
        tools = self.compiler
        flags = repr([tools.compiler_so, tools.linker_so, tools.include_dirs, vars(self.ext_map[BUNDLE])])
        said = folder / "flags"
        if not said.exists() or said.read_text() != flags:
            self.force = True
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            said.write_text(flags)
        return folder

    def object_of(self, part: Extension, folder: Path) -> str:
        """Compile `part`, unless that has been done; its object file."""
        (path,) = self.compiler.object_filenames(part.sources, output_dir=str(folder))
        if self.force or newer(part.sources[0], path):
            own = f"PyInit_{part.name.rpartition('.')[2]}"
            self.compiler.compile(
                part.sources,
                output_dir=str(folder),
                macros=[*part.define_macros, (own, init_function(part.name)), ("CYTHON_NO_PYINIT_EXPORT", None)],
                include_dirs=part.include_dirs,
                extra_postargs=[*part.extra_compile_args, "-fvisibility=hidden"],
            )
        return path


setup(
    ext_modules=[each for each in MODULES if each not in PARTS],
    cmdclass={"build_ext": build_ext},
    options={"build_ext": {"parallel": JOBS}},
)
