#!/usr/bin/env bash
# Builds the library and makes a complete install tree: stage.sh TREE [--portable] [--doctor]
#
# TREE then has include/, lib/ with pkgconfig/ and cmake/, bin/ and share/doc/, and works from where it is. LIBDIR names
# its library directory, for example lib/x86_64-linux-gnu.
#   --portable  links against glibc 2.28, with zig as the linker, as what is shipped is. Otherwise the machine's own
#               compiler links, against the machine's own glibc. The compiled code is the same.
#   --doctor    also builds the program aztorch-doctor.
#
# How the libraries are made: cargo makes a static library of all the Rust and C code. `ld -r` joins its members into one
# object, where only the names in abi/aztorch.map stay global. That object alone is libaztorch.a, so that it can be linked
# beside other Rust libraries. Linked with abi/aztorch.map it is libaztorch.so: the linker refuses a second version script
# beside the one that rustc passes, so cargo's own libaztorch.so has no symbol versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly glibc=2.28
readonly map=abi/aztorch.map
tree='' portable=no doctor=no
for argument; do
    case $argument in
    --portable) portable=yes ;;
    --doctor) doctor=yes ;;
    -*) echo "$0: unknown option $argument" >&2 && exit 2 ;;
    *) tree=$argument ;;
    esac
done
[[ -n $tree ]] || { echo "usage: $0 TREE [--portable] [--doctor]" >&2 && exit 2; }

version=$(scripts/version.sh)
readonly version major=${version%%.*} libdir=${LIBDIR:-lib}
readonly soname=libaztorch.so.$major
# Not the directory of plain `cargo build`, since other flags would rebuild everything there.
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")/stage-build
readonly build kept=$build/linked

# Without this, the libraries would contain the path of cargo's downloads, and differ from machine to machine.
remap_paths() {
    local directory flags=${RUSTFLAGS:-}
    flags=${flags// /$'\x1f'}
    for directory in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=${flags:+$'\x1f'}--remap-path-prefix=$directory=/crates
    done
    echo "$flags"
}

compile() {
    # Build scripts run again when it changes, and compile the C code anew.
    unset SOURCE_DATE_EPOCH
    cargo fetch --locked --quiet
    CARGO_ENCODED_RUSTFLAGS=$(remap_paths)
    export CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR=$build
    cargo build --locked --release --lib
    [[ $doctor == no ]] || cargo rustc --locked --release --package aztorch-doctor --bin aztorch-doctor -- \
        -C linker=scripts/doctor_linker.sh
}

# is_newer FILE THAN…: whether FILE exists and is newer than all the others.
is_newer() {
    local than
    for than in "${@:2}"; do
        [[ $1 -nt $than ]] || return 1
    done
}

# link_with NAME ARG…: NAME.so or program, linked by the machine's compiler, or by zig against an older glibc.
link_with() {
    if [[ $portable == yes ]]; then
        # libgcc_s by its path, since zig would link an unwinder of its own in place of -lgcc_s. This machine's libgcc_s
        # needs a newer glibc than the program may, but not so that of an older machine.
        ZIG_GLOBAL_CACHE_DIR=$build/zig ZIG_LOCAL_CACHE_DIR=$build/zig \
            "${zig[@]}" cc -target "$(uname -m)-linux-gnu.$glibc" "$@" -Wl,--allow-shlib-undefined \
            "$("${CC:-cc}" -print-file-name=libgcc_s.so.1)"
    else
        "${CC:-cc}" "$@" -Wl,-O1 -Wl,--as-needed -lgcc_s -lm -lpthread -ldl
    fi
}

# What zig adds of its own has debug information, with paths of this machine: hence --strip-debug.
readonly hardened=(-Wl,--strip-debug -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--gc-sections -Wl,--build-id=sha1)

link_library() {
    local object=$kept/aztorch.o archive=$kept/libaztorch.a library=$kept/$1.so names=$kept/names
    if ! is_newer "$archive" "$build/release/libaztorch.a" $map "${BASH_SOURCE[0]}"; then
        sed -n 's/^ *\(azt_[a-z0-9_]*\);.*/\1/p' $map >"$names"
        # shellcheck disable=SC2046 # one word for each name
        "${LD:-ld}" -r --gc-sections --force-group-allocation $(sed 's/^/--undefined=/' "$names") \
            -o "$object.all" "$build/release/libaztorch.a"
        # Also drops the bitcode of the standard library, two thirds of the object, which only a second rustc could use.
        "${OBJCOPY:-objcopy}" --keep-global-symbols="$names" --strip-debug --remove-section=.llvmbc \
            --remove-section=.llvmcmd "$object.all" "$object"
        rm -f "$object.all" "$archive"
        "${AR:-ar}" rcsD "$archive" "$object"
    fi
    is_newer "$library" "$archive" && return
    # The runtime's threads outlive every handle, so dlclose must not unmap the code that they run: nodelete.
    link_with -shared -o "$library.new" "$object" -Wl,-soname,"$soname" -Wl,--version-script=$map -Wl,-z,nodelete \
        -Wl,-z,defs "${hardened[@]}"
    mv "$library.new" "$library"
}

link_doctor() {
    local program=$kept/$1.doctor object=$build/release/aztorch-doctor.o
    is_newer "$program" "$object" "${BASH_SOURCE[0]}" && return
    link_with -pie -o "$program.new" "$object" "${hardened[@]}"
    mv "$program.new" "$program"
}

# The names of the library's version in a template: @VERSION@, …
fill() { # TEMPLATE FILE
    local up
    up=$(sed 's|[^/]*|..|g' <<<"$libdir")
    sed -e "s|@VERSION@|$version|g; s|@MAJOR@|$major|g; s|@SONAME@|$soname|g; s|@LIBDIR@|$libdir|g; s|@UP@|$up|g" \
        "$1" >"$2"
}

lay_down() {
    local lib=$tree.new/$libdir kind=$1
    rm -rf "$tree.new"
    mkdir -p "$lib/pkgconfig" "$lib/cmake/aztorch" "$tree.new/include" "$tree.new/share/doc/aztorch"
    # With their times, so that programs that include them are not compiled again for nothing.
    cp -R --preserve=timestamps include/. "$tree.new/include"
    cp LICENSE THIRD-PARTY-LICENSES.txt CHANGELOG.md "$tree.new/share/doc/aztorch"
    cp --preserve=timestamps "$kept/libaztorch.a" "$lib"
    cp --preserve=timestamps "$kept/$kind.so" "$lib/libaztorch.so.$version"
    ln -s "libaztorch.so.$version" "$lib/$soname"
    ln -s "$soname" "$lib/libaztorch.so"
    fill packaging/aztorch.pc.in "$lib/pkgconfig/aztorch.pc"
    fill cmake/aztorch-config.cmake.in "$lib/cmake/aztorch/aztorch-config.cmake"
    fill cmake/aztorch-config-version.cmake.in "$lib/cmake/aztorch/aztorch-config-version.cmake"
    cp cmake/aztorch-targets.cmake cmake/aztorch-torch.cmake "$lib/cmake/aztorch"
    if [[ $doctor == yes ]]; then
        mkdir "$tree.new/bin"
        cp "$kept/$kind.doctor" "$tree.new/bin/aztorch-doctor"
    fi
    chmod -R u=rwX,go=rX "$tree.new"
    chmod 644 "$lib/libaztorch.so.$version"
    rm -rf "$tree"
    mv "$tree.new" "$tree"
}

kind=native
if [[ $portable == yes ]]; then
    kind=glibc-$glibc
    read -ra zig <<<"${ZIG:-target/tools/bin/python -m ziglang}"
fi
mkdir -p "$kept"
# One at a time: `pip install` calls this script, too, and several may run at once.
exec {lock}>"$build/lock"
flock "$lock"
compile
link_library "$kind"
[[ $doctor == no ]] || link_doctor "$kind"
lay_down "$kind"
