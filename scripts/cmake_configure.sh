#!/usr/bin/env bash
# Configures a CMake project of this repository: cmake_configure.sh SOURCE BUILD TREE [ARG…]
# It uses the library in TREE, which scripts/stage.sh has made.
#
# A file with LibTorch's headers takes 41 s with -O2 -g, which makes no test faster. With these flags it takes 17 s, and
# backtraces still have line numbers. A precompiled header takes longer to build than it saves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source=$1 build=$2 tree=$3
shift 3
exec cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O1 -g1 -DNDEBUG' \
    -Daztorch_DIR="$(realpath -m "$tree")/lib/cmake/aztorch" "$@"
