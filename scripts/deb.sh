#!/usr/bin/env bash
# Makes the Debian packages from a finished install tree, without compiling: deb.sh TREE OUTPUT
#
# TREE is what `scripts/stage.sh TREE --portable --doctor` has made. OUTPUT gets libaztorch0, libaztorch-dev and aztorch-doctor as .deb files. The same tree and commit give the same bytes;
# SOURCE_DATE_EPOCH is the commit's date, unless it is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 2)) || { echo "usage: $0 TREE OUTPUT" >&2 && exit 2; }
tree=$1 output=$2
version=$(scripts/version.sh)
readonly tree output version major=${version%%.*}

fail() {
    echo "$0: $*" >&2
    exit 1
}

command -v dh >/dev/null || fail 'debhelper is missing: apt-get install debhelper'
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
[[ -e $tree/lib/libaztorch.so.$version && -e $tree/bin/aztorch-doctor ]] ||
    fail "$tree is not complete: scripts/stage.sh $tree --portable --doctor"
grep -qx "Package: libaztorch$major" packaging/debian/control ||
    fail "the SONAME is libaztorch.so.$major, but packaging/debian/ has no package libaztorch$major: rename it there"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} || fail 'set SOURCE_DATE_EPOCH, there is no commit here'
export SOURCE_DATE_EPOCH

# Debian sorts 1.0.0~rc.1 before 1.0.0, as semantic versions sort 1.0.0-rc.1.
changelog() {
    cat <<EOF
aztorch (${version/-/\~}-1) unstable; urgency=medium

  * Release $version. What has changed is in CHANGELOG.md, which is changelog.gz
    here.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(LC_ALL=C date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
EOF
}

# From which version of the library on each function exists. Programs' packages depend on the right version by this.
symbols() {
    echo "libaztorch.so.$major libaztorch$major #MINVER#"
    echo '* Build-Depends-Package: libaztorch-dev'
    # GNU ld makes a symbol of each version, lld does not.
    sed -n 's/^\(AZTORCH_\([0-9.]*\)\) {.*/ (optional)\1@\1 \2/p' abi/aztorch.map
    awk '/^AZTORCH_/ { node = $1 } /^ *azt_/ { sub(/;$/, "", $1); print " " $1 "@" node, substr(node, 9) }' abi/aztorch.map
}

# Under a path of its own, so that a run that was interrupted leaves nothing in the packages.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
umask 022
mkdir -p "$build/aztorch/debian"
cp -R packaging/debian/. "$build/aztorch/debian"
cp -R "$tree" "$build/aztorch/tree"
mv "$build/aztorch/debian/aztorch-doctor.1" "$build/aztorch"
cp CHANGELOG.md THIRD-PARTY-LICENSES.txt "$build/aztorch"
changelog >"$build/aztorch/debian/changelog"
symbols >"$build/aztorch/debian/libaztorch$major.symbols"

# Debian has its libraries in a directory for each machine. There, pkg-config and CMake have one more level to go up.
lib=$build/aztorch/tree/lib/$multiarch
mv "$build/aztorch/tree/lib" "$build/aztorch/lib"
mkdir "$build/aztorch/tree/lib"
mv "$build/aztorch/lib" "$lib"
replace() { # FILE OLD NEW
    grep -qF "$2" "$1" || fail "$1 does not have: $2"
    sed -i "s|${2//./\\.}|$3|" "$1"
}
config=$lib/cmake/aztorch/aztorch-config.cmake
replace "$config" '}/../../.."' '}/../../../.."'
replace "$config" '{_aztorch_prefix}/lib"' "{_aztorch_prefix}/lib/$multiarch\""
# Not relative, so that pkg-config recognises the compiler's own directories, and leaves them out.
replace "$lib/pkgconfig/aztorch.pc" '# Relative to this file, so that the whole tree can be moved.' '# Installed by the package libaztorch-dev.'
replace "$lib/pkgconfig/aztorch.pc" 'prefix=${pcfiledir}/../..' 'prefix=/usr'
replace "$lib/pkgconfig/aztorch.pc" 'libdir=${prefix}/lib' "libdir=\${prefix}/lib/$multiarch"
find "$build/aztorch" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# One thread, since the number of threads changes what xz writes.
(cd "$build/aztorch" && DEB_RULES_REQUIRES_ROOT=no DPKG_DEB_THREADS_MAX=1 LC_ALL=C TZ=UTC debian/rules binary)
mkdir -p "$output"
mv "$build"/*.deb "$output"
