"""Checks that each make target that a workflow or action runs is in the Makefile: check_workflows.py FILE…"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def scripts(node):
    """The shell scripts of all steps."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "run" and isinstance(value, str):
                yield value
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts(value)


found, missing = [], []
for path in sys.argv[1:]:
    for script in scripts(yaml.safe_load(Path(path).read_text(encoding="utf-8"))):
        for target in re.findall(r"(?:^|[;&|]|\n)\s*make\s+([\w-]+)", script):
            found.append(target)
            if target not in TARGETS:
                missing.append(f"{path}: make {target}: the Makefile has no such target")
print("make targets in the workflows:", *sorted(set(found)))
if missing or not found:
    sys.exit("\n".join(missing) or "no workflow runs a make target")
