# The gates of the shared library and of its header. scripts/gates.sh reads this file.

gate_library() { stage_shipped; }

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
    exported=$(nm -D --defined-only "$shipped/lib/libaztorch.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
    declared=$(declared_functions)
    diff --label 'declared in the header' --label 'exported by the library' -u \
        <(echo "$declared") <(echo "$exported") || fail 'the library exports something else than the header declares'
    ! grep -vE '^azt_' <<<"$exported" || fail 'a name without the azt_ prefix is exported'
    wc -l <<<"$exported"
}

gate_linkage() {
    local dynamic needed
    dynamic=$(readelf --dynamic --wide "$shipped/lib/libaztorch.so")
    echo "$dynamic"
    grep -qE '\(SONAME\).*\[libaztorch\.so\.[0-9]+\]' <<<"$dynamic" || fail 'no SONAME'
    grep -qE '\(FLAGS_1\).*\bNODELETE\b' <<<"$dynamic" || fail 'not linked with -z nodelete'
    ! grep -E '\((TEXTREL|RPATH|RUNPATH)\)' <<<"$dynamic" || fail 'text relocations or a run path'
    needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic")
    grep -q '^libc\.so\.6$' <<<"$needed" || fail 'readelf shows no needed libc: is this the library?'
    ! grep -vE '^(lib(c|m)\.so\.6|lib(pthread|dl)\.so\.[0-2]|libgcc_s\.so\.1|ld-linux-.*\.so\.[0-9])$' <<<"$needed" ||
        fail 'a library beyond those of glibc, and libgcc_s, is needed'
}
