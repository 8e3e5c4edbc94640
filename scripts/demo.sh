#!/usr/bin/env bash
# The demo: builds the library and two programs of cpp-examples/, then runs scripts/demo_steps.sh against an Azurite
# of its own, or in the container of AZTORCH_URL='https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
examples=$target/cmake/examples
log=target/demo/build.log
quiet=false
[[ -t 2 ]] || quiet=true

echo '[1/6] build the library and the examples (usually 3 min the first time, then 2 s)'
mkdir -p target/demo
# cargo shows its own progress. CMake's output is shown only when it fails.
CARGO_TERM_QUIET=$quiet scripts/stage.sh "$target/stage"
if ! { scripts/cmake_configure.sh cpp-examples "$examples" "$target/stage" &&
    cmake --build "$examples" --target checkpoint train_map; } >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "the examples did not build; the whole output: $log" >&2
    exit 1
fi

export AZTORCH_LIBRARY=$target/stage/lib/libaztorch.so
export AZTORCH_EXAMPLES=$examples
if [[ -n ${AZTORCH_URL:-} ]]; then
    echo "      server: ${AZTORCH_URL%%\?*}"
    exec scripts/demo_steps.sh
fi
echo '      server: Azurite on a free port'
exec node tests/support/azurite.mjs --log target/demo/server.log -- scripts/demo_steps.sh
