"""Adds the shared library and its Python declarations to the package: hatchling's build hook.

The library is the one that the tarball and the Debian packages have: scripts/stage.sh builds it, and links it against
glibc 2.28 with zig. AZTORCH_LINK=native links it with the machine's compiler against the machine's glibc instead; such
a wheel is for this machine only. AZTORCH_TREE names a tree, absolute or from the repository, that `scripts/stage.sh TREE
--doctor` has already made.

Run as a program, it fills aztorch/_native, so that the package can be imported from its sources.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NATIVE = HERE / "aztorch" / "_native"
ZIG = "ziglang==0.15.2"  # also in scripts/python_tools.txt

PREPARED = os.environ.get("AZTORCH_TREE")
PORTABLE = os.environ.get("AZTORCH_LINK", "portable") != "native"
PLATFORM = f"{'manylinux_2_28' if PORTABLE else 'linux'}_{platform.machine()}"


def read_declarations(header: str) -> str:
    """Return the declarations of the C header in the form that cffi parses: without comments and preprocessor."""
    code = re.sub(r"//[^\n]*", "", header)
    constants = re.findall(r"^#define (AZT_\w+) (-?\d+)\s*$", code, re.MULTILINE)
    code = re.sub(r"^#ifdef __cplusplus\n.*?^#endif", "", code, flags=re.MULTILINE | re.DOTALL)
    code = re.sub(r"^#.*$", "", code, flags=re.MULTILINE)
    return "\n".join(f"#define {name} {value}" for name, value in constants) + "\n" + code


def generate_declarations(header: Path, module: Path) -> None:
    """Write the Python module with cffi's form of the C header."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(read_declarations(header.read_text()))
    ffi.set_source("aztorch._native.abi", None)
    ffi.emit_python_code(str(module))


def run(*command: str, says: str) -> None:
    """Run a script of the repository, or raise RuntimeError. Its output says why."""
    environment = dict(os.environ, ZIG=f"{sys.executable} -m ziglang")
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise RuntimeError(f"{says}; the lines above say why")


def build_tree(tree: Path) -> None:
    """Build the library and aztorch-doctor, as an install tree."""
    if not (ROOT / "scripts/stage.sh").exists():
        raise RuntimeError(f"{ROOT} has no scripts/stage.sh: aztorch is built in a clone of its repository only")
    run("scripts/need_cargo.sh", says="aztorch is built with Rust, which cannot be used")
    portable = ["--portable"] if PORTABLE else []
    advice = "" if not PORTABLE else " (AZTORCH_LINK=native builds it for this machine only)"
    run("scripts/stage.sh", str(tree), "--doctor", *portable, says=f"the library could not be built{advice}")


def write_native(folder: Path) -> None:
    """Write the library, aztorch-doctor and the declarations into a new folder."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = ROOT / PREPARED if PREPARED else Path(temporary, "tree")
        if not PREPARED:
            build_tree(tree)
        folder.mkdir()
        (folder / "__init__.py").write_text('"""The shared library and its declarations. Built by hatch_build.py."""\n')
        shutil.copy(tree / "lib" / "libaztorch.so", folder)
        shutil.copy(tree / "bin" / "aztorch-doctor", folder)
        generate_declarations(tree / "include" / "aztorch.h", folder / "abi.py")


def fill_sources() -> None:
    """Fill aztorch/_native. Of several processes one does so at a time, and a failure leaves it as it was."""
    with tempfile.TemporaryDirectory(prefix="_native.", dir=NATIVE.parent) as temporary:
        made = Path(temporary, "made")
        write_native(made)
        with Path(__file__).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if NATIVE.exists():
                NATIVE.rename(Path(temporary, "earlier"))
            made.rename(NATIVE)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # It was run as a program.
    if __name__ != "__main__":
        raise
else:

    class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Adds aztorch/_native to the wheel, and names the wheel's platform."""

        def dependencies(self) -> list[str]:
            """Return what a build needs beyond the list in pyproject.toml."""
            return [ZIG] if PORTABLE and not PREPARED and self.target_name == "wheel" else []

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Make aztorch/_native, before hatchling collects the files."""
            if self.target_name != "wheel":
                raise RuntimeError(
                    "there is no source distribution of aztorch, since a wheel is built from the whole repository: "
                    "`pip wheel --no-deps ./python` or `python -m build --wheel python` makes a wheel"
                )
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{PLATFORM}"
            if version == "editable":
                fill_sources()
                return
            # A folder of this build's own: several builds may run at once.
            self._temporary = tempfile.TemporaryDirectory()
            native = Path(self._temporary.name, "_native")
            write_native(native)
            build_data["force_include"][str(native)] = "aztorch/_native"

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            """Remove what `initialize` made."""
            if version != "editable":
                self._temporary.cleanup()


if __name__ == "__main__":
    fill_sources()
