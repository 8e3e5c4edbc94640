"""Checks that a wheel has what it must have, and nothing else: check_wheel.py WHEEL"""

import base64
import hashlib
import platform
import re
import sys
import zipfile
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "aztorch"
NATIVE = ["__init__.py", "abi.py", "aztorch-doctor", "libaztorch.so"]
DIST_INFO = ["METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "licenses/THIRD-PARTY-LICENSES.txt"]
EXTRAS = {"azure", "lightning", "progress", "torch"}

wheel = Path(sys.argv[1])
# Python writes 1.0.0-rc.1 as 1.0.0rc1.
version = str(Version(re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]))
tag = f"py3-none-manylinux_2_28_{platform.machine()}"
info = f"aztorch-{version}.dist-info"
errors = []


def expect(what, found, wanted):
    if found != wanted:
        errors.append(f"{what}: {found}, and not {wanted}")


expect("the name", wheel.name, f"aztorch-{version}-{tag}.whl")
sources = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if "_native" not in path.parts[-2]]
wanted = {
    *(str(path) for path in sources),
    "aztorch/py.typed",
    *(f"aztorch/_native/{name}" for name in NATIVE),
    *(f"{info}/{name}" for name in DIST_INFO),
}
with zipfile.ZipFile(wheel) as archive:
    files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    programs = {entry.filename for entry in archive.infolist() if entry.external_attr >> 16 & 0o111}
expect("more files than the package has", sorted(files.keys() - wanted), [])
expect("missing files", sorted(wanted - files.keys()), [])
expect("programs", programs, {"aztorch/_native/aztorch-doctor"})
expect("the tag", re.findall(rb"^Tag: (.*)$", files[f"{info}/WHEEL"], re.MULTILINE), [tag.encode()])

metadata = files[f"{info}/METADATA"].decode()
expect("the version", re.findall(r"^Version: (.*)$", metadata, re.MULTILINE), [version])
expect("the oldest Python", re.findall(r"^Requires-Python: (.*)$", metadata, re.MULTILINE), [">=3.9"])
expect("the extras", set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE)), EXTRAS)
required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
expect("packages that are always needed", required, ["cffi"])

record = dict(line.split(",")[:2] for line in files[f"{info}/RECORD"].decode().splitlines())
for name, content in files.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    expect(f"the checksum of {name}", record.pop(name, None), "" if name.endswith("/RECORD") else f"sha256={digest}")
expect("files in RECORD only", sorted(record), [])

print("\n".join(errors) or f"{wheel.name}: {len(files)} files, {wheel.stat().st_size} bytes")
sys.exit(1 if errors else 0)
