#!/usr/bin/env bash
# Measures the Python package beside other clients of Azure: bench_python.sh [ARG…], with the arguments of
# benches/python.py. The clients are installed in an environment of their own, beside PyPI's torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/torch2.sh
. scripts/torch2.sh
readonly environment=target/bench-python peers=benches/python_peers.txt

if ! cmp --quiet $peers $environment/installed; then
    echo "Installing the clients of $peers under $environment (usually 30 s)"
    rm -rf $environment
    /usr/bin/python3 -m venv $environment
    # Before pip runs, which then finds torch and does not install another one.
    echo "$torch2_home"/lib/python3*/site-packages >"$(echo $environment/lib/python3*/site-packages)/torch.pth"
    $environment/bin/python -m pip install --quiet --no-input --disable-pip-version-check cffi numpy --requirement $peers
    cp $peers $environment/installed
fi
scripts/stage.sh target/shipped --portable --doctor
AZTORCH_TREE=target/shipped target/tools/bin/python python/hatch_build.py
PYTHONPATH=$PWD/python exec $environment/bin/python benches/python.py "$@"
