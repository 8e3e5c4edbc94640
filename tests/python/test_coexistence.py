"""Uses this library, torch, pyarrow and grpc in one process, loaded in either order. Three of them have a TLS library.

AZTORCH_LIBRARY is the path of the shared library. AZTORCH_WHEELS is the directory of the wheels that Debian lacks.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NAMES = ["aztorch", "torch", "pyarrow", "grpc"]
WHEELS = Path(os.environ["AZTORCH_WHEELS"])
TIMEOUT_S = 300


def symbols(library, *options):
    """The names in the dynamic symbol table of a shared library, without their versions."""
    lines = subprocess.run(["nm", "-D", *options, library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in lines.splitlines()}


def is_elf(path):
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def other_libraries():
    """The shared libraries of torch, pyarrow and grpc."""
    found = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__path__[0])"], check=True, capture_output=True, text=True
    ).stdout.strip()
    paths = [*WHEELS.rglob("*.so*"), *Path(found).rglob("*.so*"), *Path("/usr/lib").glob("*/lib*torch*.so*")]
    files = {path.resolve() for path in paths if path.is_file()}
    return sorted(path for path in files if is_elf(path))


def make_certificate(directory):
    (directory / "openssl.cnf").write_text(
        "[req]\ndistinguished_name = name\nx509_extensions = extensions\n[name]\n[extensions]\n"
        "basicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n"
    )
    command = "openssl req -config openssl.cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += " -subj /CN=localhost -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)


class CoexistenceTest(unittest.TestCase):
    def run_in_order(self, names, *options):
        here = Path(__file__).parent
        with tempfile.TemporaryDirectory() as directory:
            make_certificate(Path(directory))
            environment = os.environ | {"PYTHONPATH": f"{WHEELS}:{here}"}
            program = [sys.executable, "-B", str(here / "coexist.py"), directory, *options, *names]
            result = subprocess.run(program, env=environment, timeout=TIMEOUT_S, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stdout.split()), (0, names), result.stderr)

    def test_loaded_first(self):
        self.run_in_order(NAMES)

    def test_loaded_last(self):
        self.run_in_order(NAMES[::-1])

    def test_loaded_first_with_all_symbols_global(self):
        self.run_in_order(NAMES, "--global")

    def test_loaded_last_with_all_symbols_global(self):
        self.run_in_order(NAMES[::-1], "--global")

    def test_no_other_library_defines_a_symbol_of_this_one(self):
        ours = os.environ["AZTORCH_LIBRARY"]
        defined, needed = symbols(ours, "--defined-only"), symbols(ours, "--undefined-only")
        self.assertTrue(defined and needed)
        others = other_libraries()
        for expected in ("libarrow.so", "cygrpc", "libtorch_cpu"):
            self.assertTrue(any(expected in path.name for path in others), expected)
        for path in others:
            with self.subTest(path.name):
                theirs = symbols(path, "--defined-only")
                self.assertEqual(theirs & defined, set())
                self.assertEqual(theirs & needed, set())


if __name__ == "__main__":
    unittest.main()
