#!/usr/bin/env bash
# Configures a CMake project of this repository against the release library: cmake_configure.sh SOURCE BUILD [ARG…]
# -O2 -g takes 41 s for a file with LibTorch's headers, of which nothing here is faster; this takes 17 s, and backtraces
# still have their lines. A precompiled header takes longer to make than it saves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source=$1 build=$2
shift 2
exec cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O1 -g1 -DNDEBUG' \
    -DAZTORCH_LIB_DIR="$(realpath -m "${CARGO_TARGET_DIR:-target}")/release" "$@"
