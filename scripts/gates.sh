#!/usr/bin/env bash
# The gates of scripts/test.sh. Runs one of them and shows its output: scripts/gates.sh NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
readonly release=$target/release
readonly work=$PWD/target/gates
readonly python=/usr/bin/python3
export PYTHONDONTWRITEBYTECODE=1
readonly c_flags=(-std=c11 -pedantic -Wall -Wextra -Wstrict-prototypes -Werror -Iinclude)
readonly cpp_flags=(-std=c++17 -pedantic -Wall -Wextra -Werror -Iinclude)
readonly asan_flags=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
readonly tsan_flags=(-fsanitize=thread -fno-omit-frame-pointer)
readonly gate=${1:?usage: gates.sh NAME}

fail() {
    echo "$*" >&2
    exit 1
}

# with_server COMMAND…: runs it beside an Azurite of its own; container and log are in the AZTORCH_TEST_* variables.
# The time limit keeps a test that hangs from blocking all the others.
with_server() {
    timeout 600 node tests/support/azurite.mjs --log "$work/$gate.server.log" -- "$@"
}

# with_tls_server COMMAND…: like with_server, over https, with a new certificate that COMMAND trusts by SSL_CERT_FILE.
with_tls_server() {
    local tls=$work/$gate.tls
    make_certificate "$tls"
    timeout 600 node tests/support/azurite.mjs --log "$work/$gate.server.log" --tls "$tls/cert.pem" "$tls/key.pem" -- "$@"
}

make_certificate() { # DIRECTORY
    mkdir -p "$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$1/key.pem" -out "$1/cert.pem"
}

# blob_url NAME: prints the URL of a blob in the test's container, with the SAS.
blob_url() {
    echo "${AZTORCH_TEST_CONTAINER_URL%%\?*}/$1?${AZTORCH_TEST_CONTAINER_URL#*\?}"
}

# --- sources ----------------------------------------------------------------------------------------------------

gate_fmt() { cargo fmt --all --check -- --color never; }
gate_links() { "$python" scripts/check_links.py; }
gate_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
gate_library() { cargo build --locked --release; }
gate_header() { cargo test --test header; }
gate_fuzz() { cargo test --lib fuzzing -- --nocapture; }
gate_rust() { cargo test --no-fail-fast; }

# --- the shared library and its header --------------------------------------------------------------------------

gate_header_c() {
    echo '#include "aztorch.h"' | gcc "${c_flags[@]}" -fsyntax-only -x c -
}

# Compiles the C header as C++. No C++ header outside aztorch/torch/ may include LibTorch; a compiler does not notice,
# as Debian's LibTorch is in its default search path. The gate cpp compiles each of these headers alone.
gate_header_cpp() {
    echo '#include "aztorch.h"' | g++ "${cpp_flags[@]}" -fsyntax-only -x c++ -
    local header included
    for header in $(cd include && find aztorch -name '*.hpp' ! -path aztorch/torch.hpp ! -path 'aztorch/torch/*'); do
        included=$(echo "#include <$header>" | g++ "${cpp_flags[@]}" -M -x c++ -)
        ! grep -E '/(ATen|c10|caffe2|torch)/' <<<"$included" || fail "$header includes LibTorch"
    done
}

# The preprocessor removes the comments, which name functions too. `type (*name)` declares a callback's type.
declared_functions() {
    gcc -E -P -x c include/aztorch.h | grep -oP '\bazt_[a-z0-9_]+(?= *\([^*])' | sort -u ||
        fail 'no function found in include/aztorch.h'
}

gate_exports() {
    local exported declared
    exported=$(nm -D --defined-only "$release/libaztorch.so" | awk '{ print $3 }' | sort)
    declared=$(declared_functions)
    diff --label 'declared in the header' --label 'exported by the library' -u \
        <(echo "$declared") <(echo "$exported") || fail 'the library exports something else than the header declares'
    ! grep -vE '^azt_' <<<"$exported" || fail 'a name without the azt_ prefix is exported'
    wc -l <<<"$exported"
}

gate_linkage() {
    local dynamic needed
    dynamic=$(readelf --dynamic --wide "$release/libaztorch.so")
    echo "$dynamic"
    grep -qE '\(SONAME\).*\[libaztorch\.so\.[0-9]+\]' <<<"$dynamic" || fail 'no SONAME'
    grep -qE '\(FLAGS_1\).*\bNODELETE\b' <<<"$dynamic" || fail 'not linked with -z nodelete'
    ! grep -E '\((TEXTREL|RPATH|RUNPATH)\)' <<<"$dynamic" || fail 'text relocations or a run path'
    needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic")
    grep -q '^libc\.so\.6$' <<<"$needed" || fail 'readelf shows no needed libc: is this the library?'
    ! grep -vE '^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-.*\.so\.[0-9])$' <<<"$needed" ||
        fail 'a library beyond libc, libm and libgcc_s is needed'
}

# --- the tools --------------------------------------------------------------------------------------------------

gate_setup() { scripts/setup_test.sh; }

gate_launcher() {
    local line server
    # The launcher's stdin is closed, as after its parent was killed.
    line=$(sleep 2 | node tests/support/azurite.mjs --log "$work/$gate.server.log")
    server=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' <<<"$line")
    [[ -n $server ]] || fail "no pid in: $line"
    ! kill -0 "$server" 2>/dev/null || fail "server $server outlived its launcher"
    # The launcher returns the command's exit code, and logs the requests.
    local code=0
    with_server bash -c 'exit 7' || code=$?
    ((code == 7)) || fail "exit code $code instead of 7"
    grep -qE '"PUT /devstoreaccount1/test-[^ ]* HTTP/1.1" 201 ' "$work/$gate.server.log" || fail 'no request in the log'
}

# Builds the whole workspace, so that the library of the gate rust is used. The doctor alone would rebuild it without the
# features that the tests enable.
gate_doctor() { cargo test --locked --workspace --test doctor; }

# --- C ----------------------------------------------------------------------------------------------------------

# assert_asan yes|no PROGRAM: without this check, a build that lost its flag would pass every test.
assert_asan() {
    local found=no
    [[ $(nm "$2") == *__asan_init* ]] && found=yes
    [[ $found == "$1" ]] || fail "$2: AddressSanitizer $1 expected, $found found"
}

c_tests() { # yes|no: with AddressSanitizer
    local source program failed=() flags=(-O1 -g)
    [[ $1 == yes ]] && flags+=("${asan_flags[@]}")
    mkdir -p "$work/$gate"
    for source in tests/c/*.c; do
        # In gcc 12's AddressSanitizer, malloc keeps its locks across fork and keeps freed memory, and dlopen ignores the
        # program's run path.
        if [[ $1 == yes && $source =~ /(fork.*|life_cycle|dlclose)_test.c$ ]]; then
            echo "== $source is left to the gate 'c'"
            continue
        fi
        program=$work/$gate/$(basename "$source" .c)
        gcc "${c_flags[@]}" "${flags[@]}" "$source" -o "$program" -L"$release" -Wl,--as-needed -laztorch \
            -Wl,-rpath,"$release" -pthread
        assert_asan "$1" "$program"
        echo "== $source"
        with_server "$program" || failed+=("$source")
    done
    ((${#failed[@]} == 0)) || fail "failed: ${failed[*]}"
}

# Each function of the header has a row in the table of the misuse test. The gate 'c' runs that test.
gate_misuse() {
    local program=$work/misuse_test declared listed
    gcc "${c_flags[@]}" tests/c/misuse_test.c -o "$program" -L"$release" -laztorch -Wl,-rpath,"$release" -pthread
    declared=$(declared_functions)
    listed=$("$program" --list | sort)
    diff --label 'declared in the header' --label 'rows in tests/c/misuse_rows.h' -u \
        <(echo "$declared") <(echo "$listed") || fail 'a function has no row in tests/c/misuse_rows.h, or two'
    wc -l <<<"$listed"
}

gate_c() { c_tests no; }
gate_c_asan() { c_tests yes; }

readonly valgrind=(valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --num-callers=30 \
    --errors-for-leak-kinds=definite,indirect --error-exitcode=9 --fair-sched=yes)

# Finds leaks, and reads of memory that was never written, on both sides of the C ABI.
gate_valgrind() {
    local test leaky=$work/leaky code=0
    gcc "${c_flags[@]}" -x c - -o "$leaky" -L"$release" -laztorch -Wl,-rpath,"$release" <<<'
        #include "aztorch.h"
        int main(void) { return azt_client_options_new() == 0; }'
    "${valgrind[@]}" "$leaky" >/dev/null 2>&1 || code=$?
    ((code == 9)) || fail "exit status $code instead of 9: valgrind does not find a leak made on purpose"
    mkdir -p "$work/$gate"
    for test in contract roundtrip dataset credentials; do
        echo "== $test"
        gcc "${c_flags[@]}" -O1 -g "tests/c/${test}_test.c" -o "$work/$gate/$test" -L"$release" -laztorch \
            -Wl,-rpath,"$release" -pthread
        with_server "${valgrind[@]}" "$work/$gate/$test"
    done
}

# --- C++ --------------------------------------------------------------------------------------------------------

# cmake_build SOURCE BUILD [ARG…]: compiles at most two files at a time, since one with LibTorch needs 1 GB of memory.
cmake_build() {
    local source=$1 build=$2
    shift 2
    scripts/cmake_configure.sh "$source" "$build" "$@"
    CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2} cmake --build "$build"
}

cpp_tests_without_torch() { # BUILD
    "$1/pickle_test" tests/fixtures
    with_server "$1/iostream_test"
    with_server "$1/dataset_test"
    with_server "$1/static_test"
}

gate_cpp() {
    local build=$target/cmake/tests written=$work/$gate
    cmake_build tests/cpp "$build"
    cpp_tests_without_torch "$build"
    rm -rf "$written"
    mkdir -p "$written"
    with_server "$build/torch_test" tests/fixtures "$written"
    with_server "$build/torch_dataset_test"
    "$python" tests/cpp/read_state_dict.py "$written"
}

gate_cpp_asan() {
    local build=$target/cmake/tests-asan program
    cmake_build tests/cpp "$build" -DAZTORCH_TEST_TORCH=OFF -DCMAKE_CXX_FLAGS="${asan_flags[*]}"
    for program in pickle_test iostream_test dataset_test static_test; do
        assert_asan yes "$build/$program"
    done
    cpp_tests_without_torch "$build"
}

gate_cpp_tsan() {
    local build=$target/cmake/tests-tsan
    cmake_build tests/cpp "$build" -DAZTORCH_TEST_TORCH=OFF -DCMAKE_CXX_FLAGS="${tsan_flags[*]}"
    [[ $(nm "$build/dataset_test") == *__tsan_init* ]] || fail 'dataset_test was built without ThreadSanitizer'
    TSAN_OPTIONS="suppressions=$PWD/tests/cpp/tsan.supp" with_server "$build/dataset_test"
}

# Runs the programs of the gates c and cpp, and the Rust tests of reads and writes, once more over https.
gate_tls() {
    local program torch=$target/cmake/tests/torch_test written=$work/$gate tls=$work/$gate.tls
    for program in "$work/c/roundtrip_test" "$target/cmake/tests/iostream_test" "$torch"; do
        [[ -x $program ]] || fail "$program is missing: run the gates c and cpp first"
    done
    rm -rf "$written"
    mkdir -p "$written"
    with_tls_server "$work/c/roundtrip_test"
    assert_tls
    with_tls_server "$target/cmake/tests/iostream_test"
    assert_tls
    with_tls_server "$torch" tests/fixtures "$written"
    assert_tls
    AZTORCH_TEST_TLS=$tls SSL_CERT_FILE=$tls/cert.pem \
        cargo test --test suite -- read::reader:: write::writer:: write::concurrent_writers:: client::checksums::
}

# Reads the server's log, since a test that fell back to http would pass too.
assert_tls() {
    grep -q 'successfully listens on https://' "$work/$gate.server.log" || fail 'the server did not speak https'
    grep -qE '"(PUT|GET) [^ ]*/test-[^ ]*/[^ ]+ HTTP/1.1" 20' "$work/$gate.server.log" || fail 'no blob went over https'
}

# Uses an older Azurite, which users still run and which refuses a CRC64. client::checksums:: checks that it is this
# one.
gate_azurite_3_35() {
    local program=$work/$gate.roundtrip_test
    export AZTORCH_TEST_AZURITE=azurite-3.35
    gcc "${c_flags[@]}" tests/c/roundtrip_test.c -o "$program" -L"$release" -laztorch -Wl,-rpath,"$release" -pthread
    with_server "$program"
    cargo test --test suite -- read::reader:: write::writer:: dataset::listing:: client::checksums::
}

build_examples() { cmake_build cpp-examples "$target/cmake/examples"; }

gate_examples() {
    build_examples
    with_server scripts/gates.sh run_examples
}

gate_run_examples() {
    local examples=$target/cmake/examples
    "$examples/checkpoint_c" "$(blob_url checkpoint_c.bin)"
    "$examples/checkpoint" save "$(blob_url model.pt)"
    "$examples/checkpoint" load "$(blob_url model.pt)"
    # Counted in the server's log. Through a plain istream each of torch's 485 reads would be a request.
    local gets
    sleep 1 # the server logs a request after its answer
    gets=$(grep -cE '"GET [^ ]*/model\.pt[? ]' "$AZTORCH_TEST_LOG")
    echo "torch::load sent $gets GETs"
    ((gets > 0 && gets <= 20)) || fail "torch::load of a ResNet18 sent $gets GETs"
}

# --- README and docs/ -------------------------------------------------------------------------------------------

# Each block of code in README.md and docs/*.md: file, language, number, and how it is checked.
#   program   compiled and run
#   torch     compiled, all of them as one file, since LibTorch's headers take most of the time
#   project   the CMakeLists.txt of that file
#   lines     lines of a longer program: parsed
readonly blocks='README.md cpp 1 torch
README.md python 1 program
docs/c-api.md c 1 program
docs/c-api.md python 1 program
docs/cpp.md cmake 1 project
docs/cpp.md cpp 1 torch
docs/cpp.md cpp 2 torch
docs/cpp.md cpp 3 torch
docs/cpp.md cpp 4 program
docs/cpp.md python 1 lines
docs/cpp.md python 2 lines
docs/datasets.md cpp 1 torch
docs/datasets.md cpp 2 torch'

# All blocks except those of shell and of plain text: file, language, number.
found_blocks() {
    awk 'FNR == 1 { split("", count); inside = 0 }
        /^ *```/ {
            language = $0
            sub(/^ *```/, "", language)
            if (!inside && language != "" && language != "sh") print FILENAME, language, ++count[language]
            inside = !inside
        }' README.md docs/*.md
}

block() { # FILE LANGUAGE NUMBER
    awk -v opening="\`\`\`$2" -v wanted="$3" '
        { line = $0; sub(/^ */, "", line) }
        line == "```" { inside = 0 }
        inside
        line == opening { inside = ++count == wanted }' "$1"
}

# Compiles each block as it is printed, and runs the programs.
gate_readme() {
    local folder=$work/readme file language number how name
    local link=(-L"$release" -laztorch -Wl,-rpath,"$release")
    diff --label 'blocks that this gate knows' --label 'blocks in the files' -u \
        <(cut -d' ' -f1-3 <<<"$blocks" | sort) <(found_blocks | sort) || fail 'scripts/gates.sh does not know these blocks'
    rm -rf "$folder"
    mkdir -p "$folder/torch"
    while read -r file language number how; do
        name=$folder/$(basename "$file" .md)-$number
        echo "== $file: $language $number, $how"
        block "$file" "$language" "$number" >"$name.$language"
        case "$language $how" in
        'c program') gcc "${c_flags[@]}" "$name.c" -o "$name" "${link[@]}" ;;
        'cpp program') g++ "${cpp_flags[@]}" "$name.cpp" -o "$name" "${link[@]}" ;;
        'cpp torch') sed 's|"https://ACCOUNT[^"]*"|std::getenv("README_URL")|' "$name.cpp" >>"$folder/torch/main.cpp" ;;
        'cmake project')
            sed "s|\${AZTORCH}/target|$target|; s|/path/to/aztorch|$PWD|" "$name.cmake" >"$folder/torch/CMakeLists.txt"
            ;;
        'python program') sed "s|target/release|$release|" "$name.python" >"$name.py" ;;
        'python lines') "$python" -c 'import ast, sys; ast.parse(sys.stdin.read())' <"$name.python" ;;
        *) fail "$file: $language cannot be checked as $how" ;;
        esac
    done <<<"$blocks"
    cmake -S "$folder/torch" -B "$folder/torch/build"
    cmake --build "$folder/torch/build"
    with_server scripts/gates.sh run_readme
}

says() { # TEXT COMMAND…
    local said
    said=$("${@:2}") || fail "$2: exit status $?"
    [[ $said == "$1" ]] || fail "$2: '$said' instead of '$1'"
}

gate_run_readme() {
    export AZURE_STORAGE_CONNECTION_STRING=$AZTORCH_TEST_CONNECTION_STRING
    cd "$work/readme"
    says '' env "README_URL=$(blob_url readme.pt)" torch/build/trainer
    says "['bias', 'weight']" "$python" README-1.py "$(blob_url readme-weights.pt)"
    says '12 bytes: hello, blob' ./c-api-1 "$(blob_url readme-c)"
    says "b'hello, blob'" "$python" c-api-1.py "$(blob_url readme-python)"
    says $'image,label\n1.png,cat' ./cpp-4 "$(blob_url readme-labels)" "$(blob_url readme-model)"
}

# --- training ---------------------------------------------------------------------------------------------------

test_examples() { # TEST
    build_examples
    AZTORCH_EXAMPLES=$target/cmake/examples with_server "$python" "tests/examples/$1"
}

gate_training() { test_examples test_training.py; }
gate_distributed() { test_examples test_distributed.py; }

# --- Python -----------------------------------------------------------------------------------------------------

gate_python() {
    local test
    for test in ctypes fork; do
        echo "== $test"
        AZTORCH_LIBRARY=$release/libaztorch.so with_server "$python" "tests/python/test_$test.py"
    done
}

gate_coexistence() {
    AZTORCH_LIBRARY=$release/libaztorch.so AZTORCH_WHEELS=$PWD/target/wheels \
        with_server "$python" tests/python/test_coexistence.py
}

gate_python_torch() {
    build_examples
    with_server scripts/gates.sh run_python_torch
}

gate_run_python_torch() {
    local blob
    blob=$(blob_url state_dict.pt)
    "$target/cmake/examples/checkpoint" save-state-dict "$blob"
    AZTORCH_LIBRARY=$release/libaztorch.so "$python" scripts/demo_read.py "$blob" "$work/$gate.pt"
}

[[ $(type -t "gate_$gate") == function ]] || fail "no gate is called $gate"
"gate_$gate"
