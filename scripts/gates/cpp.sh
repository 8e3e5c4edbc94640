# The gates of the C++ headers and of the example programs. scripts/gates.sh reads this file.

# cmake_build SOURCE BUILD [ARG…]: compiles at most two files at a time, since one with LibTorch needs 1 GB of memory.
cmake_build() {
    local source=$1 build=$2
    shift 2
    scripts/cmake_configure.sh "$source" "$build" "$shipped" "$@"
    CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2} cmake --build "$build"
}

cpp_tests_without_torch() { # BUILD
    "$1/pickle_test" tests/fixtures
    with_server "$1/iostream_test"
    with_server "$1/dataset_test"
    with_server "$1/static_test"
}

# shellcheck disable=SC2120 # torch2.sh passes arguments
cpp_tests() { # [ARG…]: for CMake
    local build=$builds/tests written=$work/$gate
    cmake_build tests/cpp "$build" "${torch_arguments[@]}" "$@"
    cpp_tests_without_torch "$build"
    rm -rf "$written"
    mkdir -p "$written"
    with_server "$build/torch_test" tests/fixtures "$written"
    with_server "$build/torch_dataset_test"
    "$python" tests/cpp/read_state_dict.py "$written"
}

# shellcheck disable=SC2119
gate_cpp() { cpp_tests; }

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
    gcc "${c_flags[@]}" tests/c/roundtrip_test.c -o "$program" -L"$shipped/lib" -laztorch -Wl,-rpath,"$shipped/lib" -pthread
    with_server "$program"
    cargo test --test suite -- read::reader:: write::writer:: dataset::listing:: client::checksums::
}

build_examples() {
    stage_shipped # for its headers
    cmake_build cpp-examples "$builds/examples" -DCMAKE_C_FLAGS=-Werror "${torch_arguments[@]}"
}

gate_examples() {
    build_examples
    with_server scripts/gates.sh "run_$gate"
}

gate_run_examples() {
    local examples=$builds/examples
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
