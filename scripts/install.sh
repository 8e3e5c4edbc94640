#!/usr/bin/env bash
# Installs the library, or removes it again: install.sh install|uninstall
#
# The environment says where: PREFIX (/usr/local), LIBDIR (lib; relative to PREFIX), DESTDIR (empty). All is checked
# before anything is built or written. PREFIX/share/aztorch/manifest lists what was installed. It is written before the
# files, so that even after a kill -9 `make uninstall` removes all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly action=${1:-}
readonly prefix=${PREFIX:-/usr/local} libdir=${LIBDIR:-lib} destdir=${DESTDIR:-}
root=$destdir$prefix
root=${root%/}
readonly root manifest=$root/share/aztorch/manifest
version=$(scripts/version.sh)
tree=$(realpath -m "${CARGO_TARGET_DIR:-target}")/stage
readonly version tree

fail() {
    echo "$*" >&2
    exit 1
}

# again TARGET: the command to run with the same places.
again() {
    local command="make $1 PREFIX='$prefix'"
    [[ $libdir == lib ]] || command+=" LIBDIR='$libdir'"
    [[ -z $destdir ]] || command+=" DESTDIR='$destdir'"
    echo "$command"
}

check_places() {
    [[ $prefix == /* ]] || fail "PREFIX='$prefix' is not an absolute path: make $action PREFIX='$PWD/$prefix'"
    [[ -z $destdir || $destdir == /* ]] ||
        fail "DESTDIR='$destdir' is not an absolute path: make $action PREFIX='$prefix' DESTDIR='$PWD/$destdir'"
    [[ $libdir != /* && /$libdir/ != */../* && -n $libdir ]] ||
        fail "LIBDIR='$libdir' must be relative to PREFIX and below it: make $action PREFIX='$prefix' LIBDIR=lib"
}

# Says in which directory nothing can be written. DIRECTORY may not exist yet.
check_writable() { # DIRECTORY
    local directory=$1 probe
    while [[ ! -e $directory && ! -L $directory ]]; do directory=$(dirname "$directory"); done
    [[ -d $directory ]] || fail "cannot install to $root: $directory is not a directory. Choose another PREFIX."
    # Tried and not only asked: root may "write" to a file system that is read-only.
    probe=$(mktemp -d "$directory/.aztorch-XXXXXX" 2>/dev/null) && rmdir "$probe" || fail "cannot write to $directory. As root: sudo $(again "$action")
Or into a place of your own: make $action PREFIX=\"\$HOME/.local\""
}

installed_version() { sed -n '1s/^aztorch //p' "$manifest"; }
listed() { sed -n "s/^$1 //p" "$manifest"; } # file|directory

check_no_other() {
    local found owner path
    if [[ -e $manifest ]]; then
        found=$(installed_version)
        [[ $found == "$version" && $(sed -n 's/^libdir //p' "$manifest") == "$libdir" ]] ||
            fail "aztorch ${found:-of an unknown version} is installed in $root already. Remove it first: \
make uninstall PREFIX='$prefix'${destdir:+ DESTDIR='$destdir'}"
        return
    fi
    for path in include/aztorch.h "$libdir/libaztorch.so" "$libdir/libaztorch.so.${version%%.*}" "$libdir/libaztorch.a" \
        "$libdir/pkgconfig/aztorch.pc" "$libdir/cmake/aztorch" bin/aztorch-doctor; do
        [[ -e $root/$path || -L $root/$path ]] || continue
        owner=$(dpkg-query --search "$root/$path" 2>/dev/null | sed -n '1s/:.*//p') || owner=
        [[ -z $owner ]] || fail "$root/$path belongs to the package $owner. Remove it first: sudo apt-get remove $owner
Or choose another PREFIX."
        fail "$root/$path exists, and \`make install\` did not put it there. Remove it first: rm -r '$root/$path'
Or choose another PREFIX."
    done
}

build() {
    # Root often has no cargo, and would leave files of its own in the user's directory.
    if [[ -n ${SUDO_UID:-} ]] || ! scripts/need_cargo.sh 2>/dev/null; then
        if [[ -x $tree/bin/aztorch-doctor && -e $tree/$libdir/libaztorch.so.$version ]]; then
            echo "Installing what \`make build\` has built in $tree"
            return
        fi
    fi
    scripts/setup.sh build
    LIBDIR=$libdir scripts/stage.sh "$tree" --doctor
}

# --- install ----------------------------------------------------------------------------------------------------

partial= # the directory inside of PREFIX from which files are moved into their places
placed=() made=()

# Puts everything back as it was.
roll_back() {
    local path
    for path in ${placed[@]+"${placed[@]}"}; do
        rm -f "$root/$path"
        if [[ -e $partial/old/$path || -L $partial/old/$path ]]; then
            mv -T "$partial/old/$path" "$root/$path"
        fi
    done
    rm -rf "$partial"
    for ((i = ${#made[@]} - 1; i >= 0; i--)); do
        rmdir "${made[i]}" 2>/dev/null || true # not empty: someone else uses it now
    done
    echo "Nothing was installed in $root." >&2
}

make_directory() { # PATH
    [[ -n $1 && ! -d $1 ]] || return 0
    make_directory "$(dirname "$1")"
    mkdir -m 755 "$1"
    made+=("$1")
}

place() { # PATH
    make_directory "$(dirname "$root/$1")"
    if [[ -e $root/$1 || -L $root/$1 ]]; then
        mkdir -p "$(dirname "$partial/old/$1")"
        mv -T "$root/$1" "$partial/old/$1"
    fi
    placed+=("$1")
    mv -T "$partial/new/$1" "$root/$1"
}

write_manifest() { # PATH…
    local path
    mkdir -p "$partial/new/share/aztorch"
    {
        echo "aztorch $version"
        echo "libdir $libdir"
        printf 'file %s\n' "$@" share/aztorch/manifest
        # In the order in which they were made. Those that an earlier installation made are still ours.
        [[ ! -e $manifest ]] || grep '^directory ' "$manifest" || true
        for path in ${made[@]+"${made[@]}"}; do
            [[ $path != "$root"/* ]] || echo "directory ${path#"$root/"}"
        done
    } >"$partial/new/share/aztorch/manifest"
}

install_tree() {
    local paths path
    mapfile -t paths < <(cd "$tree" && find . ! -type d -printf '%P\n' | sort)
    trap 'trap - EXIT; roll_back' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    make_directory "$root"
    partial=$root/.aztorch-install.$$
    mkdir "$partial"
    # The copy comes first: a full disk ends it here, before anything has changed.
    cp -R --preserve=mode,links "$tree" "$partial/new"
    for path in "${paths[@]}"; do make_directory "$(dirname "$root/$path")"; done
    make_directory "$root/share/aztorch"
    write_manifest "${paths[@]}"
    place share/aztorch/manifest
    for path in "${paths[@]}"; do place "$path"; done
    trap - EXIT INT TERM HUP
    rm -rf "$partial"
}

# The loader finds libraries in these directories only. ldconfig tells it of a new one.
announce() {
    echo "aztorch $version is installed in $root"
    [[ -z $destdir ]] || return 0
    local directory=$prefix/$libdir other
    if /sbin/ldconfig -v -N 2>/dev/null | grep -q "^$(realpath "$directory"): "; then
        [[ $EUID -ne 0 ]] || /sbin/ldconfig
    else
        echo "The loader does not look in $directory. Link programs with -Wl,-rpath,$directory, or run them with"
        echo "LD_LIBRARY_PATH=$directory. For pkg-config: PKG_CONFIG_PATH=$directory/pkgconfig. For CMake:"
        echo "-DCMAKE_PREFIX_PATH=$prefix"
    fi
    other=$(/sbin/ldconfig -p | sed -n "s|.*libaztorch\.so\.${version%%.*} .* => ||p" | grep -vF "$directory/" | head -n 1) || true
    [[ -z $other ]] || echo "Another one is $other. Programs load the one that the loader finds first: ldd PROGRAM"
}

# --- uninstall --------------------------------------------------------------------------------------------------

uninstall() {
    local path
    [[ -e $manifest ]] || fail "aztorch is not installed in $root: there is no $manifest"
    ! sed -n 's/^[a-z]* //p' "$manifest" | grep -E '^/|(^|/)\.\.(/|$)' || fail "$manifest names files outside of $root"
    check_writable "$(dirname "$manifest")"
    while read -r path; do check_writable "$(dirname "$root/$path")"; done < <(listed file)
    local found directories
    found=$(installed_version)
    mapfile -t directories < <(listed directory | tac)
    # The manifest is the last file in its own list, so what an interrupted run has left can be removed by another.
    while read -r path; do rm -f "$root/$path"; done < <(listed file | grep -v '^share/aztorch/manifest$')
    rm -rf "$root"/.aztorch-install.*
    rm -f "$manifest"
    for path in "${directories[@]}"; do
        rmdir "$root/$path" 2>/dev/null || true # not empty: other programs use it
    done
    echo "aztorch $found is removed from $root"
    [[ -n $destdir || $EUID -ne 0 ]] || /sbin/ldconfig
}

case $action in
install)
    check_places
    check_no_other
    for path in include "$libdir" bin share; do check_writable "$root/$path"; done
    build
    install_tree
    announce
    ;;
uninstall)
    check_places
    uninstall
    ;;
*) echo "usage: [PREFIX=…] [DESTDIR=…] [LIBDIR=…] $0 install|uninstall" >&2 && exit 2 ;;
esac
