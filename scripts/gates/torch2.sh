# The gates with PyPI's torch. scripts/gates.sh reads this file, and sets the variables by the names of these gates.

# LibTorch demands C++20 from its own programs. The others test the headers of aztorch as C++20.
gate_cpp_torch2() { cpp_tests -DCMAKE_CXX_STANDARD=20 -DAZTORCH_TEST_UNITY=ON; }
gate_examples_torch2() { gate_examples; }
gate_run_examples_torch2() { gate_run_examples; }
gate_training_torch2() { gate_training; }
gate_distributed_torch2() { gate_distributed; }
gate_python_torch2() { gate_python_torch; }
gate_run_python_torch2() { gate_run_python_torch; }
