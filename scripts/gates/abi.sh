# The gates of the ABI: docs/abi.md. scripts/gates.sh reads this file.

readonly abi_map=abi/aztorch.map

# The functions of the map, each with its version, sorted: azt_version@@AZTORCH_0.1
mapped_symbols() {
    awk '/^AZTORCH_/ { node = $1 } /^ *azt_/ { sub(/;$/, "", $1); print $1 "@@" node }' "$abi_map" | sort
}

assert_versions() { # LIBRARY
    diff --label "$abi_map" --label "exported by $1" -u <(mapped_symbols) \
        <(nm -D --defined-only --with-symbol-versions "$1" | awk '$2 != "A" { print $3 }' | sort) ||
        fail "$1 exports other symbols or versions than $abi_map"
}

# Prints the declarations of the header as C, with an empty body for each function. A debugger's types say nothing of
# macros, so the constants become an enum.
functions_without_content() {
    gcc -E -P -x c include/aztorch.h | awk 'BEGIN { RS = ORS = ";" }
        !NF { next }
        /azt_[a-z0-9_]+ *\([^*]/ && !/^[ \n]*typedef/ { $0 = $0 " {}" }
        { print }'
    echo 'enum azt_constants {'
    gcc -E -dM -x c include/aztorch.h |
        sed -nE '/AZT_VERSION_/d; s/^#define (AZT_[A-Z0-9_]+) (.+)$/\1 = \2,/p' | LC_ALL=C sort
    echo '};'
    # Without a use, gcc would leave the enum out.
    echo 'static enum azt_constants constants __attribute__((used));'
}

# abi_dump LIBRARY SONAME: builds a library that has only the ABI, and prints abidw's description of it. The real one
# would not do: its debug information has the types of Rust.
abi_dump() {
    functions_without_content >"$1.c"
    # From stdin, so that no path gets into the dump.
    gcc -std=c11 -g -fPIC -shared -nostdlib -Wl,-soname,"$2" -Wl,--version-script="$abi_map" -o "$1" -x c - <"$1.c"
    assert_versions "$1" >&2
    abidw --load-all-types --type-id-style hash --no-architecture --no-comp-dir-path --no-corpus-path \
        --no-elf-needed --no-parameter-names --no-show-locs "$1"
}

# Any difference from the committed dump fails. With AZTORCH_BLESS=1 (`make abi`), the dump is written anew.
gate_abi() {
    local soname dump new report kind
    local compare=(abidiff --no-architecture --no-corpus-path --no-show-locs --non-reachable-types)
    soname=$(scripts/version.sh)
    soname=libaztorch.so.${soname%%.*}
    dump=abi/$soname.abi new=$work/abi/$soname.abi
    mkdir -p "$work/abi"
    diff --label 'declared in the header' --label "in $abi_map" -u \
        <(declared_functions) <(mapped_symbols | sed 's/@@.*//' | sort) ||
        fail "$abi_map lacks a function, has one twice, or has one that the header does not declare"
    abi_dump "$work/abi/$soname" "$soname" >"$new"
    if [[ ! -e $dump ]]; then
        report="$dump does not exist." kind='A new SONAME needs a dump of its own.'
    elif report=$("${compare[@]}" --harmless --redundant "$dump" "$new"); then
        echo "the ABI is that of $dump"
        return
    elif "${compare[@]}" --no-added-syms "$dump" "$new" >/dev/null; then
        kind='abidiff sees nothing here that breaks a compiled program.'
    else
        kind='This may break compiled programs. If it does, it needs another major version, so another SONAME.'
    fi
    echo "$report"
    echo "$kind See docs/abi.md."
    [[ -n ${AZTORCH_BLESS:-} ]] || fail "the ABI is not that of $dump; if this is intended, run: make abi"
    cp "$new" "$dump"
    echo "$dump is written: commit it"
}

# The map only says what the versions should be. This is what they are.
gate_versions() {
    assert_versions "$shipped/lib/libaztorch.so"
    nm -D --defined-only --with-symbol-versions "$shipped/lib/libaztorch.so" | sed -n 's/.*@@//p' | sort | uniq -c
}
