#!/usr/bin/env bash
# What each gate of scripts/test.sh does. One of them alone, with its output: scripts/gates.sh NAME
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

# with_server COMMAND…: with an Azurite, a container and a log of its own, in the AZTORCH_TEST_* variables.
# A test that hangs would otherwise hold up all the others.
with_server() {
    timeout 600 node tests/support/azurite.mjs --log "$work/$gate.server.log" -- "$@"
}

# The same over https, with a certificate made now, which COMMAND trusts through SSL_CERT_FILE.
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

# blob_url NAME: a blob in the test's container, with its SAS.
blob_url() {
    echo "${AZTORCH_TEST_CONTAINER_URL%%\?*}/$1?${AZTORCH_TEST_CONTAINER_URL#*\?}"
}

# --- Rust -------------------------------------------------------------------------------------------------------

gate_fmt() { cargo fmt --all --check -- --color never; }
gate_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
gate_library() { cargo build --locked --release; }
gate_header() { cargo test --test header; }
gate_fuzz() { cargo test --lib fuzzing -- --nocapture; }
gate_rust() { cargo test --no-fail-fast; }

# --- the shared library and its header --------------------------------------------------------------------------

gate_header_c() {
    echo '#include "aztorch.h"' | gcc "${c_flags[@]}" -fsyntax-only -x c -
}

# The C header as C++, and: no C++ header outside aztorch/torch/ includes LibTorch. A compiler would not notice, because
# Debian's LibTorch is in its default search path. The gate cpp compiles each of these headers alone.
gate_header_cpp() {
    echo '#include "aztorch.h"' | g++ "${cpp_flags[@]}" -fsyntax-only -x c++ -
    local header included
    for header in $(cd include && find aztorch -name '*.hpp' ! -path aztorch/torch.hpp ! -path 'aztorch/torch/*'); do
        included=$(echo "#include <$header>" | g++ "${cpp_flags[@]}" -M -x c++ -)
        ! grep -E '/(ATen|c10|caffe2|torch)/' <<<"$included" || fail "$header includes LibTorch"
    done
}

# The preprocessor takes the comments away, which name functions too; `type (*name)` declares a callback's type.
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
    # The launcher's stdin closes at once, as when the process that started it was killed.
    line=$(sleep 2 | node tests/support/azurite.mjs --log "$work/$gate.server.log")
    server=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' <<<"$line")
    [[ -n $server ]] || fail "no pid in: $line"
    ! kill -0 "$server" 2>/dev/null || fail "server $server outlived its launcher"
    # The command's own exit code comes back, and its requests are in the log.
    local code=0
    with_server bash -c 'exit 7' || code=$?
    ((code == 7)) || fail "exit code $code in place of 7"
    grep -qE '"PUT /devstoreaccount1/test-[^ ]* HTTP/1.1" 201 ' "$work/$gate.server.log" || fail 'no request in the log'
}

# With the whole workspace, so that the library is the one that the gate rust has built: on its own, the doctor would
# have it built again, without the features that the tests bring.
gate_doctor() { cargo test --locked --workspace --test doctor; }

# --- C ----------------------------------------------------------------------------------------------------------

# assert_asan yes|no PROGRAM: an ASan build that lost its flag would pass every test.
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
        # malloc of gcc 12's AddressSanitizer keeps its locks across fork, and keeps what was freed; its dlopen does not
        # know the program's run path.
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

# Of every function of the header there is a row in the table of the misuse test; the gate 'c' runs it.
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

# Leaks, and reads of what was never written, on both sides of the boundary.
gate_valgrind() {
    local test leaky=$work/leaky code=0
    gcc "${c_flags[@]}" -x c - -o "$leaky" -L"$release" -laztorch -Wl,-rpath,"$release" <<<'
        #include "aztorch.h"
        int main(void) { return azt_client_options_new() == 0; }'
    "${valgrind[@]}" "$leaky" >/dev/null 2>&1 || code=$?
    ((code == 9)) || fail "exit status $code in place of 9: a leak that is there is not found"
    mkdir -p "$work/$gate"
    for test in contract roundtrip dataset credentials; do
        echo "== $test"
        gcc "${c_flags[@]}" -O1 -g "tests/c/${test}_test.c" -o "$work/$gate/$test" -L"$release" -laztorch \
            -Wl,-rpath,"$release" -pthread
        with_server "${valgrind[@]}" "$work/$gate/$test"
    done
}

# --- C++ --------------------------------------------------------------------------------------------------------

# cmake_build SOURCE BUILD [ARG…]: a LibTorch file takes 1 GB to compile, so no more than two at a time.
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
    [[ $(nm "$build/dataset_test") == *__tsan_init* ]] || fail 'dataset_test: no ThreadSanitizer in it'
    TSAN_OPTIONS="suppressions=$PWD/tests/cpp/tsan.supp" with_server "$build/dataset_test"
}

# The programs that the gates c and cpp have built, and the Rust tests of reads and writes, once more over https.
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

# The server's own word for it: a test that fell back to http would pass all the same.
assert_tls() {
    grep -q 'successfully listens on https://' "$work/$gate.server.log" || fail 'the server did not speak https'
    grep -qE '"(PUT|GET) [^ ]*/test-[^ ]*/[^ ]+ HTTP/1.1" 20' "$work/$gate.server.log" || fail 'no blob went over https'
}

# With the Azurite that users still run, which refuses a CRC64: client::checksums:: says whether it is that one.
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
    # The server's own count: through a plain istream each of torch's 460 reads would be a request.
    local gets
    sleep 1 # the server writes a request's line after its answer
    gets=$(grep -cE '"GET [^ ]*/model\.pt[? ]' "$AZTORCH_TEST_LOG")
    echo "torch::load sent $gets GETs"
    ((gets > 0 && gets <= 20)) || fail "torch::load of a ResNet18 sent $gets GETs"
}

# --- README -----------------------------------------------------------------------------------------------------

snippets() { # LANGUAGE: how many pieces of code README has in it
    grep -cx "\`\`\`$1" README.md
}

snippet() { # LANGUAGE NUMBER: one of them, from 1
    awk -v fence="\`\`\`$1" -v wanted="$2" '/^```$/ { inside = 0 } inside; $0 == fence { inside = ++count == wanted }' README.md
}

# What README shows compiles as it stands there, and does what it says.
gate_readme() {
    local folder=$work/readme number
    rm -rf "$folder"
    mkdir -p "$folder/torch"
    [[ "$(snippets c) $(snippets cpp) $(snippets cmake) $(snippets python)" == '1 6 1 3' ]] ||
        fail 'README has other pieces of code than this gate knows'
    snippet c 1 >"$folder/hello.c"
    gcc "${c_flags[@]}" "$folder/hello.c" -o "$folder/hello" -L"$release" -laztorch -Wl,-rpath,"$release"
    snippet cpp 3 >"$folder/streams.cpp"
    g++ "${cpp_flags[@]}" "$folder/streams.cpp" -o "$folder/streams" -L"$release" -laztorch -Wl,-rpath,"$release"
    # Those with LibTorch as one file, which is what takes the time; by README's own CMakeLists.txt.
    for number in 1 2 4 5 6; do snippet cpp "$number"; done >"$folder/torch/main.cpp"
    sed -i 's|"https://ACCOUNT[^"]*"|std::getenv("README_URL")|' "$folder/torch/main.cpp"
    snippet cmake 1 | sed "s|\${AZTORCH}/target|$target|; s|/path/to/aztorch|$PWD|" >"$folder/torch/CMakeLists.txt"
    cmake -S "$folder/torch" -B "$folder/torch/build"
    cmake --build "$folder/torch/build"
    # The first two are lines out of somebody's program.
    snippet python 3 | sed "s|target/release|$release|" >"$folder/hello.py"
    with_server scripts/gates.sh run_readme
}

says() { # TEXT COMMAND…
    local said
    said=$("${@:2}") || fail "$2: exit status $?"
    [[ $said == "$1" ]] || fail "$2: '$said' in place of '$1'"
}

gate_run_readme() {
    export AZURE_STORAGE_CONNECTION_STRING=$AZTORCH_TEST_CONNECTION_STRING
    cd "$work/readme"
    says '12 bytes: hello, blob' ./hello "$(blob_url readme-c)"
    says "b'hello, blob'" "$python" hello.py "$(blob_url readme-python)"
    says $'image,label\n1.png,cat' ./streams "$(blob_url readme-labels)" "$(blob_url readme-model)"
    says '' env "README_URL=$(blob_url readme.pt)" torch/build/trainer
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
