# The gates with PyPI's torch. scripts/gates.sh reads this file, and sets the variables by the names of these gates.

gate_cpp_torch2() { gate_cpp; }
gate_examples_torch2() { gate_examples; }
gate_run_examples_torch2() { gate_run_examples; }
gate_training_torch2() { gate_training; }
gate_distributed_torch2() { gate_distributed; }
gate_python_torch2() { gate_python_torch; }
gate_run_python_torch2() { gate_run_python_torch; }
