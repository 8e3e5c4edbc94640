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
    with_server scripts/gates.sh "run_$gate"
}

gate_run_python_torch() {
    local checkpoint=$builds/examples/checkpoint blob
    export AZTORCH_LIBRARY=$shipped/lib/libaztorch.so
    blob=$(blob_url state_dict.pt)
    "$checkpoint" save-state-dict "$blob"
    "$python" scripts/demo_read.py "$blob" "$work/$gate.pt"
    # And back: it compares each tensor with the one that it saved first.
    "$python" tests/python/save_state_dict.py "$work/$gate.pt" from_python.pt
    "$checkpoint" load-state-dict "$(blob_url from_python.pt)"
}
