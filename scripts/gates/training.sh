# The gates of the programs that train. scripts/gates.sh reads this file.

test_examples() { # TEST
    build_examples
    AZTORCH_EXAMPLES=$builds/examples with_server "$python" "tests/examples/$1"
}

gate_training() { test_examples test_training.py; }
gate_distributed() { test_examples test_distributed.py; }
