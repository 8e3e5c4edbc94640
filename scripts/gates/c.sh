# The gates of the C tests. scripts/gates.sh reads this file.

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
        gcc "${c_flags[@]}" "${flags[@]}" "$source" -o "$program" -L"$shipped/lib" -Wl,--as-needed -laztorch \
            -Wl,-rpath,"$shipped/lib" -pthread
        assert_asan "$1" "$program"
        echo "== $source"
        with_server "$program" || failed+=("$source")
    done
    ((${#failed[@]} == 0)) || fail "failed: ${failed[*]}"
}

# Each function of the header has a row in the table of the misuse test. The gate 'c' runs that test.
gate_misuse() {
    local program=$work/misuse_test declared listed
    gcc "${c_flags[@]}" tests/c/misuse_test.c -o "$program" -L"$shipped/lib" -laztorch -Wl,-rpath,"$shipped/lib" -pthread
    declared=$(declared_functions)
    listed=$("$program" --list | sort)
    diff --label 'declared in the header' --label 'rows in tests/c/misuse_rows.h' -u \
        <(echo "$declared") <(echo "$listed") || fail 'a function has no row in tests/c/misuse_rows.h, or two'
    wc -l <<<"$listed"
}

gate_c() { c_tests no; }
gate_c_asan() { c_tests yes; }

readonly valgrind=(valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --num-callers=30 \
    --errors-for-leak-kinds=definite,indirect --error-exitcode=9 --fair-sched=yes --suppressions=tests/c/valgrind.supp)

# Finds leaks, and reads of memory that was never written, on both sides of the C ABI. It uses the same code as linked by
# this machine's compiler: valgrind 3.19 cannot read the names of functions in what zig links.
gate_valgrind() {
    local test leaky=$work/leaky code=0 library=$target/stage/lib
    scripts/stage.sh "$target/stage" --doctor
    gcc "${c_flags[@]}" -x c - -o "$leaky" -L"$library" -laztorch -Wl,-rpath,"$library" <<<'
        #include "aztorch.h"
        int main(void) { return azt_client_options_new() == 0; }'
    "${valgrind[@]}" "$leaky" >/dev/null 2>&1 || code=$?
    ((code == 9)) || fail "exit status $code instead of 9: valgrind does not find a leak made on purpose"
    mkdir -p "$work/$gate"
    for test in contract roundtrip dataset credentials; do
        echo "== $test"
        gcc "${c_flags[@]}" -O1 -g "tests/c/${test}_test.c" -o "$work/$gate/$test" -L"$library" -laztorch \
            -Wl,-rpath,"$library" -pthread
        with_server "${valgrind[@]}" "$work/$gate/$test"
    done
}
