#!/usr/bin/env bash
# Makes the Python wheel from the tree target/shipped, which scripts/stage.sh has made: wheel.sh FOLDER
# The same tree gives the same bytes; SOURCE_DATE_EPOCH is the time of the files in the wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# What hatch_build.py needs is in target/tools, so nothing is downloaded.
env --unset=AZTORCH_LINK AZTORCH_TREE="$target/shipped" target/tools/bin/python -m pip wheel --quiet --no-input \
    --disable-pip-version-check --no-index --no-deps --no-build-isolation --wheel-dir "${1:?usage: wheel.sh FOLDER}" ./python
