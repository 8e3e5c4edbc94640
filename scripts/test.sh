#!/usr/bin/env bash
# Runs the gates, all of them or those that are named: test.sh [--quick | --torch2 | NAME…]
# The gates that end in _torch2 need a large download. They run only with --torch2, or when they are named.
# The output of each gate goes to target/gates/NAME.log, and is shown when the gate fails. All gates run; the exit status
# is non-zero if any of them failed. The last lines say why they failed. scripts/gates/ says what each gate does.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

readonly logs=target/gates
# A test that did not run is a failure. These are the words of cargo, unittest, ctest and pytest.
readonly skipped='[1-9][0-9]* ignored|skipped=[1-9]|Ran 0 tests|\*\*\*(Not Run|Skipped)|[1-9][0-9]* (skipped|xfailed|xpassed)\b'
readonly shown_lines=300 digest_lines=40

quick=(fmt links shell workflows release aks clippy library header notices fuzz header_c header_cpp exports abi linkage
    python_types)
chosen=("$@")
[[ ${1:-} == --quick ]] && chosen=("${quick[@]}")
torch2=(library cpp_torch2 examples_torch2 training_torch2 distributed_torch2 python_torch2 python_types_torch2
    python_tests_torch2 python_tests_tls_torch2)
[[ ${1:-} == --torch2 ]] && chosen=("${torch2[@]}")
passed=0 failed=() known=()
declare -A reasons

is_chosen() {
    if ((${#chosen[@]} == 0)); then
        [[ $1 != *_torch2 ]]
    else
        [[ " ${chosen[*]} " == *" $1 "* ]]
    fi
}

gate() { # NAME USUAL-DURATION WHAT
    local name=$1 usual=$2 what=$3 log=$logs/$1.log started=$SECONDS why=
    known+=("$name")
    is_chosen "$name" || return 0
    printf '%-18s %s (usually %s) … ' "$name" "$what" "$usual"
    # In a process of its own, since `set -e` has no effect inside a function whose status is tested.
    scripts/gates.sh "$name" </dev/null >"$log" 2>&1 || why="exit status $?"
    [[ -z $why ]] && grep -qE "$skipped" "$log" && why='a test was skipped'
    if [[ -z $why ]]; then
        passed=$((passed + 1))
        echo "ok, $((SECONDS - started)) s"
        return
    fi
    failed+=("$name")
    reasons[$name]=$why
    echo "FAILED, $((SECONDS - started)) s"
    tail -n "$shown_lines" "$log" | sed 's/^/    /'
    echo "FAILED: $name ($why); whole output: $log; to run it again: scripts/test.sh $name"
}

# Prints why a gate failed: the last lines of its log, the lines around panics and other errors, or all of a short log.
digest() { # NAME
    local log=$logs/$1.log
    [[ -n ${reasons[$1]:-} ]] || return 0
    printf '\n== %s: %s; from %s:\n' "$1" "${reasons[$1]}" "$log"
    MOST=$((digest_lines - 2)) SKIPPED=$skipped awk '
        function mark(first, last, rank) {
            for (; first <= last; first++) if (!(first in ranks) || rank < ranks[first]) ranks[first] = rank
        }
        { lines[NR] = substr($0, 1, 300) }
        /panicked at/ { mark(NR, NR + 3, 2); next }
        $0 ~ ENVIRON["SKIPPED"] { mark(NR, NR, 3) }
        / \.\.\. ok$|[^0-9]0 failed|^ +[0-9]+: / { next } # of tests that passed, and of backtraces
        /FAIL|failed|[Ee]rror(\[E[0-9]+\])?:|^[^ ]+:[0-9]+:/ { mark(NR, NR + 1, 3) }
        END {
            most = ENVIRON["MOST"]
            mark(NR <= most ? 1 : NR - 4, NR, 1)
            for (rank = 1; rank <= 3; rank++)
                for (line = 1; line <= NR && count < most; line++)
                    if (ranks[line] == rank) { shown[line] = 1; count++ }
            for (line = 1; line <= NR; line++) if (line in shown) print "    " lines[line]
        }' "$log"
}

mkdir -p "$logs"
gate fmt            '1 s'              'Rust format'
gate links          '1 s'              'what the Markdown files refer to exists'
gate shell          '5 s'              'shellcheck over the scripts'
gate workflows      '1 s'              'actionlint and zizmor over .github; the make targets there exist'
gate release        '2 s'              'notes, files and publication of a pretended release'
gate aks            '2 s'              'Dockerfile and Kubernetes manifest of cpp-examples/aks'
gate clippy         '10 s, cold 2 min' 'Rust lints'
gate library        '3 s, cold 5 min'  'the tree that is shipped: libraries, headers, packages, aztorch-doctor'
gate docs           '20 s'             'pages, references of C, C++, Python and Rust as one site'
gate header         '2 s, cold 2 min'  'include/aztorch.h is what the sources say'
gate notices        '1 s'              'the licences of all crates that are shipped are in THIRD-PARTY-LICENSES.txt'
gate fuzz           '10 s, cold 30 s'  'the fuzzing targets over their corpus and its mutations'
gate header_c       '1 s'              'the header as C11'
gate header_cpp     '5 s'              'the header as C++17; LibTorch is included in aztorch/torch/ only'
gate exports        '1 s'              'exported are the functions of the header, and nothing else'
gate abi            '1 s'              'functions, types and numbers of the ABI are those that are committed'
gate linkage        '1 s'              'SONAME, nodelete, needed libraries'
gate versions       '1 s'              'the symbols of the library have the versions that are committed'
gate glibc          '3 s'              'what is shipped runs with glibc 2.28'
gate setup          '1 s'              'set-up names everything that is missing at once'
gate launcher       '3 s'              'the Azurite launcher leaves no server behind'
gate rust           '8 min'            'Rust tests on Azurite and on the fault server'
gate doctor         '10 s'             'aztorch-doctor on Azurite'
gate install        '20 s'             'make install, as README shows it, and outside projects that use it'
gate install_errors '10 s'             'an installation that cannot be is refused, and nothing is half installed'
gate subproject     '2 min'            'the sources as a part of an outside CMake project'
gate dist           '50 s, cold 2 min' 'what a release ships, made twice with the same bytes'
gate tarball        '3 s'              'the tarball as README unpacks it; one version everywhere'
gate wheel          '15 s'             'the wheel: its files, its tag; installed and used'
gate deb            '60 s'             'Debian packages: lintian, installed, used, removed'
gate misuse         '1 s'              'each function of the header is misused by a test'
gate c              '60 s'             'C tests'
gate c_asan         '8 s'              'C tests under AddressSanitizer'
gate valgrind       '15 s'             'C tests under valgrind: no leak'
gate python         '8 s'              'Python tests over ctypes'
gate python_types   '3 s, cold 5 s'    'Python package: types, lints, format, nothing newer than Python 3.9'
gate python_package '20 s'             'pip install ./python, also as an editable one, in a copy of the checkout'
gate python_tests   '40 s'             'tests of the Python package'
gate python_tests_tls '10 s'           'tests of the Python package over https'
gate coexistence    '15 s'             'in one process with torch, pyarrow and grpc'
gate cpp            '15 s, cold 80 s'  'C++ and LibTorch tests'
gate cpp_asan       '5 s, cold 40 s'   'C++ tests without torch under AddressSanitizer'
gate cpp_tsan       '15 s, cold 40 s'  'C++ datasets and streams under ThreadSanitizer'
gate tls            '30 s'             'reads, writes and LibTorch over https'
gate azurite_3_35   '50 s'             'reads, writes, listings and checksums on an earlier Azurite'
gate examples       '5 s, cold 2 min'  'the example programs'
gate readme         '35 s'             'the code in README and docs/, compiled and run'
gate training       '45 s'             'training from blobs, resumed; losses equal those over files'
gate distributed    '100 s'            'training on several ranks, killed and resumed on others'
gate aks_run        '40 s'             'the Job of cpp-examples/aks on local ranks, killed and continued'
gate python_torch   '6 s'              'torch for Python reads what C++ wrote, and C++ what it wrote'
gate cpp_torch2         '60 s, cold 2 min' "C++ and LibTorch tests with PyPI's torch"
gate examples_torch2    '5 s, cold 2 min'  "the example programs with PyPI's torch"
gate training_torch2    '20 s'             "training with PyPI's torch"
gate distributed_torch2 '50 s'             "training on several ranks with PyPI's torch"
gate python_torch2      '10 s'             "PyPI's torch and C++ read what the other wrote"
gate python_types_torch2 '5 s, cold 40 s'  "the types of the Python package with PyPI's torch"
gate python_tests_torch2 '90 s'            "tests of the Python package with PyPI's torch"
gate python_tests_tls_torch2 '15 s'        "the same over https"

for name in ${chosen[@]+"${chosen[@]}"}; do
    [[ " ${known[*]} " == *" $name "* ]] && continue
    echo "no gate is called $name; there are: ${known[*]}" >&2
    failed+=("$name")
done

((${#failed[@]} == 0)) || echo "failed: ${failed[*]}"
echo "$passed passed, ${#failed[@]} failed"
# At the very end, since a CI shows only a part of a long log.
for name in ${failed[@]+"${failed[@]}"}; do
    digest "$name"
done
((${#failed[@]} == 0))
