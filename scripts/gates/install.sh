# The gates of `make install`. Outside projects use what it laid down. scripts/gates.sh reads this file.

readonly outside=${AZTORCH_OUTSIDE:-} # a new directory outside of the checkout, in the parts that run beside a server

# in_outside COMMAND…: with nothing of the checkout or of this shell in its environment, but for the server.
in_outside() {
    env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$outside" LC_ALL=C.UTF-8 ${Torch_DIR:+Torch_DIR="$Torch_DIR"} \
        AZURE_STORAGE_CONNECTION_STRING="${AZTORCH_TEST_CONNECTION_STRING:-}" "$@"
}

install_to() { # PREFIX [LIBDIR [DESTDIR]]
    PREFIX=$1 LIBDIR=${2:-lib} DESTDIR=${3:-} scripts/install.sh install
}

uninstall_from() { # PREFIX [LIBDIR [DESTDIR]]
    PREFIX=$1 LIBDIR=${2:-lib} DESTDIR=${3:-} scripts/install.sh uninstall
}

# runs PROGRAM NAME: on a blob of that name.
runs() { in_outside "$1" "$(blob_url "$2")"; }

# uses_prefix PROGRAM PREFIX: whether the program loads the library of that prefix.
uses_prefix() { in_outside ldd "$1" | grep -F "$2/lib/libaztorch.so.0" || fail "$1 does not use $2"; }

outside_cmake() { # PROJECT BUILD ARG…
    in_outside cmake -S "$outside/tests/$1" -B "$2" "${@:3}"
    in_outside cmake --build "$2"
}

outside_pkg_config() { # PREFIX PROGRAM
    local flags
    flags=$(in_outside env PKG_CONFIG_PATH="$1/lib/pkgconfig" pkg-config --cflags --libs 'aztorch >= 0.1')
    # shellcheck disable=SC2086 # several words
    in_outside gcc -std=c11 -Wall -Werror "$outside/tests/blob.c" -o "$2" $flags "-Wl,-rpath,$1/lib"
}

# Linked beside another Rust library, in both orders: a linker takes from an archive what it lacks at that place.
outside_static() { # PREFIX PROGRAM
    local flags
    rustc --edition 2024 --crate-type staticlib -O -o "$outside/libsecond.a" "$outside/tests/second.rs"
    flags=$(in_outside env PKG_CONFIG_PATH="$1/lib/pkgconfig" pkg-config --static --libs-only-l aztorch)
    flags=${flags//-laztorch/}
    # shellcheck disable=SC2086
    for order in "$1/lib/libaztorch.a $outside/libsecond.a" "$outside/libsecond.a $1/lib/libaztorch.a"; do
        in_outside gcc -std=c11 -DSECOND_RUST_LIBRARY "-I$1/include" "$outside/tests/blob.c" -o "$2" $order $flags
        ! in_outside ldd "$2" | grep aztorch || fail "$2 uses a shared libaztorch"
        runs "$2" static
    done
}

# What another static library could clash with.
only_azt_is_global() { # ARCHIVE
    local names
    names=$(nm --defined-only --extern-only "$1" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort)
    diff --label 'declared in the header' --label "global in $1" -u <(declared_functions) <(echo "$names") ||
        fail "$1 has other global names than the functions of the header"
}

# refuses WORDS COMMAND…: it must fail, and say the words.
refuses() {
    local words=$1 said
    shift
    said=$("$@" 2>&1) && fail "not refused: $*"
    grep -qF -e "$words" <<<"$said" || fail "not said: $words. Said was: $said"
    echo "refused: ${said//$'\n'/ | }"
}

holds_nothing() { # DIRECTORY
    [[ -z $(find "$1" -mindepth 1 2>/dev/null) ]] || fail "half installed: $(find "$1" -mindepth 1)"
}

# Runs the lines of README's section "Install" as they are printed, where $HOME is the new directory.
gate_install() {
    local folder rust
    folder=$(mktemp -d)
    # shellcheck disable=SC2064 # the variable is local
    trap "rm -rf '$folder'" EXIT
    cp -R tests/install "$folder/tests"
    cp tests/install/blob.c "$folder/example.c"
    rust=("CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}" "RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}")
    env HOME="$folder" "${rust[@]}" bash -euxc "$(block README.md sh 2)"
    block README.md cmake 1 >"$folder/find_package.cmake"
    AZTORCH_OUTSIDE=$folder with_server scripts/gates.sh run_install
    # Again over itself, which changes nothing, and away.
    (cd "$folder/moved" && find . ! -type d | sort) >"$folder/before"
    install_to "$folder/moved"
    (cd "$folder/moved" && find . ! -type d | sort) | diff "$folder/before" - ||
        fail 'a second installation left other files'
    uninstall_from "$folder/moved"
    holds_nothing "$folder/moved"
}

gate_run_install() {
    local prefix=$outside/.local moved=$outside/moved
    echo '== find_package'
    outside_cmake find_package "$outside/build" -DCMAKE_PREFIX_PATH="$prefix" -DLINES="$outside/find_package.cmake"
    uses_prefix "$outside/build/tool" "$prefix"
    runs "$outside/build/tool" find_package
    runs "$outside/build/tool_static" find_package_static
    runs "$outside/build/trainer" find_package_cpp
    echo '== pkg-config and gcc'
    (cd "$outside" && in_outside bash -euxc "$(cd "$OLDPWD" && block README.md sh 3)")
    uses_prefix "$outside/example" "$prefix"
    runs "$outside/example" pkg_config
    echo '== static, beside a second Rust library'
    only_azt_is_global "$prefix/lib/libaztorch.a"
    outside_static "$prefix" "$outside/blob_static"
    echo '== the doctor'
    in_outside "$prefix/bin/aztorch-doctor" "$(blob_url '')"
    echo '== a moved prefix'
    mv "$prefix" "$moved"
    ! grep -rF "$prefix" "$moved" || fail 'a file names the prefix'
    ! grep -rF "$PWD" "$moved" || fail 'a file names the checkout'
    outside_cmake find_package "$outside/build-moved" -DCMAKE_PREFIX_PATH="$moved" -DLINES="$outside/find_package.cmake"
    uses_prefix "$outside/build-moved/tool" "$moved"
    runs "$outside/build-moved/tool" moved
    outside_pkg_config "$moved" "$outside/blob_moved"
    uses_prefix "$outside/blob_moved" "$moved"
    runs "$outside/blob_moved" moved
}

# The sources as a part of an outside project. The crates are not compiled again; aztorch itself is.
gate_subproject() {
    local folder
    folder=$(mktemp -d)
    # shellcheck disable=SC2064 # the variable is local
    trap "rm -rf '$folder'" EXIT
    cp -R tests/install "$folder/tests"
    mkdir -p "$folder/cargo" "$folder/tests/add_subdirectory/third_party/aztorch"
    block README.md cmake 2 >"$folder/add_subdirectory.cmake"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from - | \
        tar -x -C "$folder/tests/add_subdirectory/third_party/aztorch"
    cp -R --preserve=timestamps --reflink=auto "$target/stage-build" "$folder/cargo"
    AZTORCH_OUTSIDE=$folder with_server scripts/gates.sh run_subproject
}

gate_run_subproject() {
    local build=$outside/build prefix=$outside/prefix
    local rust=(env "PATH=$(dirname "$(command -v cargo)"):/usr/bin:/bin" "CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}"
        ${RUSTUP_HOME:+"RUSTUP_HOME=$RUSTUP_HOME"})
    [[ -n ${RUSTUP_HOME:-} ]] || rust+=("RUSTUP_HOME=$HOME/.rustup")
    in_outside "${rust[@]}" cmake -S "$outside/tests/add_subdirectory" -B "$build" \
        -DLINES="$outside/add_subdirectory.cmake" -DAZTORCH_CARGO_TARGET_DIR="$outside/cargo"
    in_outside "${rust[@]}" cmake --build "$build"
    ! ldd "$build/tool" | grep -F "$PWD" || fail 'the program uses the checkout'
    runs "$build/tool" add_subdirectory
    runs "$build/tool_static" add_subdirectory_static
    runs "$build/trainer" add_subdirectory_cpp
    # By itself it can be installed too. This is the checkout, where all is compiled already.
    in_outside "${rust[@]}" cmake -S . -B "$build-own" -DAZTORCH_CARGO_TARGET_DIR="$target"
    in_outside "${rust[@]}" cmake --build "$build-own"
    in_outside "${rust[@]}" cmake --install "$build-own" --prefix "$prefix"
    outside_pkg_config "$prefix" "$outside/blob"
    runs "$outside/blob" cmake_install
}

gate_install_errors() {
    local folder prefix
    folder=$(mktemp -d)
    # shellcheck disable=SC2064 # the variable is local
    trap "rm -rf '$folder'" EXIT
    prefix=$folder/prefix

    refuses 'is not an absolute path: make install PREFIX=' install_to here
    refuses 'must be relative to PREFIX' install_to "$prefix" /lib
    echo 'a file' >"$folder/file"
    refuses "$folder/file is not a directory" install_to "$folder/file/prefix"
    refuses 'cannot write to /proc' install_to /proc/aztorch
    refuses 'aztorch is not installed in' uninstall_from "$prefix"

    # A second version.
    mkdir -p "$prefix/share/aztorch"
    printf 'aztorch 0.0.9\nlibdir lib\nfile share/aztorch/manifest\n' >"$prefix/share/aztorch/manifest"
    refuses "aztorch 0.0.9 is installed in $prefix already. Remove it first: make uninstall" install_to "$prefix"
    uninstall_from "$prefix"
    rm -rf "$prefix"
    # Files that are not ours.
    mkdir -p "$prefix/include"
    echo '// mine' >"$prefix/include/aztorch.h"
    refuses "$prefix/include/aztorch.h exists, and \`make install\` did not put it there" install_to "$prefix"
    [[ $(<"$prefix/include/aztorch.h") == '// mine' ]] || fail 'a file of the user was replaced'
    rm -rf "$prefix"

    # A disk that is full: no file may grow beyond 5 MB. It happens in the middle, and everything is put back.
    refuses "Nothing was installed in $prefix" env -C "$PWD" bash -c \
        'trap "" XFSZ; ulimit -f 5000; PREFIX=$1 SUDO_UID=0 scripts/install.sh install' bash "$prefix"
    holds_nothing "$prefix"

    # An installation that was killed can be removed.
    install_to "$prefix"
    rm "$prefix/lib/libaztorch.a" "$prefix/include/aztorch.h"
    uninstall_from "$prefix"
    holds_nothing "$prefix"

    # The staging directory of a package.
    install_to /usr lib/x86_64-linux-gnu "$folder/destination"
    [[ -e $folder/destination/usr/lib/x86_64-linux-gnu/libaztorch.so.0 ]] || fail 'DESTDIR or LIBDIR was ignored'
    uninstall_from /usr lib/x86_64-linux-gnu "$folder/destination"
    holds_nothing "$folder/destination/usr"

    # CMake, with an installation where something is missing, of an old version, without LibTorch, with an old cargo.
    local cmake=(cmake -S tests/install/find_package -B "$folder/build" -DCMAKE_PREFIX_PATH="$prefix"
        -DLINES="$folder/find_package.cmake")
    block README.md cmake 1 >"$folder/find_package.cmake"
    install_to "$prefix"
    echo 'find_package(aztorch 99 CONFIG REQUIRED)' >"$folder/version.cmake"
    refuses 'compatible with requested version "99"' "${cmake[@]}" -DLINES="$folder/version.cmake"
    echo 'find_package(aztorch CONFIG REQUIRED COMPONENTS torch)' >"$folder/torch.cmake"
    refuses 'LibTorch was not found: apt-get install libtorch-dev' "${cmake[@]}" -DLINES="$folder/torch.cmake" \
        -DCMAKE_DISABLE_FIND_PACKAGE_Torch=TRUE
    cmake=("${cmake[@]/build/build-2}")
    rm "$prefix/lib/libaztorch.a"
    refuses 'libaztorch.a is missing: install aztorch' "${cmake[@]}"
    mkdir "$folder/bin"
    printf '#!/bin/sh\necho cargo 1.66.0\n' >"$folder/bin/cargo"
    chmod +x "$folder/bin/cargo"
    refuses 'and found 1.66.0:' env "PATH=$folder/bin:$PATH" cmake -S . -B "$folder/build-cargo"
    refuses 'cargo >= ' env "PATH=$folder/bin:$PATH" CARGO_TARGET_DIR="$folder/target" PREFIX="$folder/other" \
        scripts/install.sh install
    holds_nothing "$folder/other"
}
