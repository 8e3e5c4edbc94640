#!/usr/bin/env bash
# Runs the benchmarks with release builds: bench.sh [--quick]
# --quick: only bulk reads, and batches and streams of samples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly python=/usr/bin/python3

# Prints the first requirement of benches/torch_load.py that is not installed; nothing when all are installed.
missing_for_torch_load() {
    if ! command -v g++ >/dev/null; then
        echo g++
    elif [[ ! -e /usr/include/torch/csrc/api/include/torch/torch.h ]]; then
        echo libtorch-dev
    elif ! "$python" -c 'import torch' 2>/dev/null; then
        echo python3-torch
    fi
}

if [[ ${1:-} == --quick ]]; then
    cargo bench --locked --bench blobs -- read
    cargo bench --locked --bench datasets -- batches
    exit
fi

cargo bench --locked --bench blobs --bench datasets
missing=$(missing_for_torch_load)
if [[ -n $missing ]]; then
    echo "skipped: benches/torch_load.py needs $missing, which is not installed"
    exit
fi
# Without `tensors`, which needs 4.3 GB of disk and 8 GB of memory: run benches/torch_load.py for that.
"$python" benches/torch_load.py load load_state_dict jit_load
