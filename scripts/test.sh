#!/usr/bin/env bash
# Runs the gates, all of them or those that are named: test.sh [--quick | NAME…]
# Each gate's output goes to target/gates/NAME.log and is shown when the gate fails. All gates run; the
# exit status is non-zero if any failed. scripts/gates.sh says what each gate does.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly logs=target/gates
# A test that did not run is a failure, whichever runner hides it: cargo, unittest or ctest.
readonly skipped='[1-9][0-9]* ignored|skipped=[1-9]|Ran 0 tests|\*\*\*(Not Run|Skipped)'
readonly shown_lines=300

quick=(fmt clippy library header fuzz header_c header_cpp exports linkage)
chosen=("$@")
[[ ${1:-} == --quick ]] && chosen=("${quick[@]}")
passed=0 failed=() known=()

is_chosen() {
    ((${#chosen[@]} == 0)) || [[ " ${chosen[*]} " == *" $1 "* ]]
}

gate() { # NAME USUAL-DURATION WHAT
    local name=$1 usual=$2 what=$3 log=$logs/$1.log started=$SECONDS why=
    known+=("$name")
    is_chosen "$name" || return 0
    printf '%-14s %s (usually %s) … ' "$name" "$what" "$usual"
    # A process of its own: `set -e` has no effect inside a function whose status is tested.
    scripts/gates.sh "$name" </dev/null >"$log" 2>&1 || why="exit status $?"
    [[ -z $why ]] && grep -qE "$skipped" "$log" && why='a test was skipped'
    if [[ -z $why ]]; then
        passed=$((passed + 1))
        echo "ok, $((SECONDS - started)) s"
        return
    fi
    failed+=("$name")
    echo "FAILED, $((SECONDS - started)) s"
    tail -n "$shown_lines" "$log" | sed 's/^/    /'
    echo "FAILED: $name ($why); all of its output: $log; again: scripts/test.sh $name"
}

mkdir -p "$logs"
gate fmt            '1 s'              'Rust format'
gate clippy         '10 s, cold 2 min' 'Rust lints'
gate library        '1 s, cold 3 min'  'release libraries'
gate header         '2 s, cold 2 min'  'include/aztorch.h is what the sources say'
gate fuzz           '10 s, cold 30 s'  'the fuzzing targets over their corpus and its mutations'
gate header_c       '1 s'              'the header as C11'
gate header_cpp     '5 s'              'the header as C++17; LibTorch is included in aztorch/torch/ only'
gate exports        '1 s'              'exported are the functions of the header, and nothing else'
gate linkage        '1 s'              'SONAME, nodelete, needed libraries'
gate setup          '1 s'              'set-up names everything that is missing at once'
gate launcher       '3 s'              'the Azurite launcher leaves no server behind'
gate rust           '8 min'            'Rust tests on Azurite and on the fault server'
gate doctor         '10 s'             'aztorch-doctor on Azurite'
gate misuse         '1 s'              'each function of the header is misused by a test'
gate c              '60 s'             'C tests'
gate c_asan         '8 s'              'C tests under AddressSanitizer'
gate valgrind       '15 s'             'C tests under valgrind: no leak'
gate python         '8 s'              'Python tests over ctypes'
gate coexistence    '15 s'             'in one process with torch, pyarrow and grpc'
gate cpp            '15 s, cold 80 s'  'C++ and LibTorch tests'
gate cpp_asan       '5 s, cold 40 s'   'C++ tests without torch under AddressSanitizer'
gate cpp_tsan       '15 s, cold 40 s'  'C++ datasets and streams under ThreadSanitizer'
gate tls            '30 s'             'reads, writes and LibTorch over https'
gate azurite_3_35   '50 s'             'reads, writes, listings and checksums on an earlier Azurite'
gate examples       '5 s, cold 2 min'  'the example programs'
gate readme         '25 s'             'what README shows, compiled and run'
gate training       '45 s'             'training from blobs, resumed; losses equal those over files'
gate distributed    '100 s'            'training on several ranks, killed and resumed on others'
gate python_torch   '6 s'              'torch for Python reads what C++ wrote'

for name in ${chosen[@]+"${chosen[@]}"}; do
    [[ " ${known[*]} " == *" $name "* ]] && continue
    echo "no gate is called $name; there are: ${known[*]}" >&2
    failed+=("$name")
done

((${#failed[@]} == 0)) || echo "failed: ${failed[*]}"
echo "$passed passed, ${#failed[@]} failed"
((${#failed[@]} == 0))
