# The gates of the tests in Python. scripts/gates.sh reads this file.

gate_python() {
    local test
    for test in ctypes fork; do
        echo "== $test"
        AZTORCH_LIBRARY=$shipped/lib/libaztorch.so with_server "$python" "tests/python/test_$test.py"
    done
}

gate_coexistence() {
    AZTORCH_LIBRARY=$shipped/lib/libaztorch.so AZTORCH_WHEELS=$PWD/target/wheels \
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
    AZTORCH_LIBRARY=$shipped/lib/libaztorch.so "$python" scripts/demo_read.py "$blob" "$work/$gate.pt"
}
