"""Adds the shared library and its Python declarations to the package: hatchling's build hook.

The library is the one that the tarball and the Debian packages have: scripts/stage.sh builds it, and links it against
glibc 2.28 with zig. AZTORCH_LINK=native links it with the machine's compiler against the machine's glibc instead; such a
wheel is for this machine only. AZTORCH_TREE names an install tree that scripts/stage.sh has already made.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NATIVE = Path(__file__).resolve().parent / "aztorch" / "_native"
GLIBC = "2_28"


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


def build_tree(portable: bool) -> Path:
    """Build the library and aztorch-doctor, and return the install tree."""
    prepared = os.environ.get("AZTORCH_TREE")
    if prepared:
        return Path(prepared).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    tree = target / ("python-tree" if portable else "python-tree-native")
    command = [str(ROOT / "scripts/stage.sh"), str(tree), "--doctor", *(["--portable"] if portable else [])]
    environment = dict(os.environ, ZIG=f"{sys.executable} -m ziglang")
    if subprocess.run([str(ROOT / "scripts/need_cargo.sh")], check=False).returncode:
        raise RuntimeError("aztorch is built with Rust; the lines above say what is missing")
    if subprocess.run(command, env=environment, check=False).returncode:
        raise RuntimeError(
            "the library could not be built; the lines above say why"
            + ("; AZTORCH_LINK=native builds it for this machine only" if portable else "")
        )
    return tree


def fill_native(portable: bool) -> None:
    """Fill aztorch/_native with the library, aztorch-doctor and the declarations."""
    tree = build_tree(portable)
    partial = NATIVE.with_name("_native.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "__init__.py").write_text('"""The shared library and its declarations. Built by hatch_build.py."""\n')
    shutil.copy(tree / "lib" / "libaztorch.so", partial / "libaztorch.so")
    shutil.copy(tree / "bin" / "aztorch-doctor", partial / "aztorch-doctor")
    generate_declarations(tree / "include" / "aztorch.h", partial / "abi.py")
    shutil.rmtree(NATIVE, ignore_errors=True)
    partial.rename(NATIVE)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # Run as a program, to fill a source tree.
    if __name__ != "__main__":
        raise
else:

    class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Fills aztorch/_native before hatchling makes a wheel, and names the wheel's platform."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            portable = os.environ.get("AZTORCH_LINK", "portable") != "native"
            fill_native(portable)
            system = f"manylinux_{GLIBC}" if portable else "linux"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{system}_{platform.machine()}"


if __name__ == "__main__":
    fill_native(portable=os.environ.get("AZTORCH_LINK", "portable") != "native")
