# The gates of what a release ships: make dist. scripts/gates.sh reads this file.

readonly oldest_glibc=2.28

# The highest version of glibc that a file asks for.
needed_glibc() {
    objdump -T "$1" | grep -oP '\bGLIBC_\K[0-9.]+' | sort --version-sort | tail -n 1
}

# The same by the rules of Python's wheels, which also limit the libraries that a file may need. auditwheel reads wheels
# only, so this makes one.
assert_manylinux() { # FILE…
    local wheel said
    wheel=$work/$gate/probe-1-py3-none-linux_$(uname -m).whl
    rm -rf "$work/$gate"
    mkdir -p "$work/$gate/probe" "$work/$gate/probe-1.dist-info"
    cp "$@" "$work/$gate/probe"
    echo 'Wheel-Version: 1.0
Root-Is-Purelib: false
Tag: py3-none-linux_'"$(uname -m)" >"$work/$gate/probe-1.dist-info/WHEEL"
    printf 'Metadata-Version: 2.1\nName: probe\nVersion: 1\n' >"$work/$gate/probe-1.dist-info/METADATA"
    (cd "$work/$gate" && printf '%s,,\n' probe/*) >"$work/$gate/probe-1.dist-info/RECORD"
    (cd "$work/$gate" && "$python" -m zipfile -c "$wheel" probe probe-1.dist-info)
    said=$(target/tools/bin/auditwheel show "$wheel" 2>&1)
    echo "$said"
    grep -qE "tag: *\"manylinux_2_([0-9]|1[0-9]|2[0-8])_$(uname -m)\"" <<<"${said//$'\n'/ }" ||
        fail 'auditwheel finds that this needs a newer system than manylinux_2_28'
}

gate_glibc() {
    local file needed
    for file in "$shipped/lib/libaztorch.so" "$shipped/bin/aztorch-doctor"; do
        needed=$(needed_glibc "$file")
        echo "$file needs glibc $needed"
        [[ -n $needed && $(printf '%s\n%s\n' "$needed" $oldest_glibc | sort --version-sort | tail -n 1) == "$oldest_glibc" ]] ||
            fail "$file needs glibc $needed, and $oldest_glibc is the oldest that we promise"
    done
    # Otherwise no two machines would make the same bytes.
    ! strings --all "$shipped"/lib/libaztorch.* "$shipped/bin/aztorch-doctor" | sed 's|$|/|' |
        grep -oF -e "$PWD/" -e "${CARGO_HOME:-$HOME/.cargo}/" || fail 'what is shipped names paths of this machine'
    assert_manylinux "$shipped/lib/libaztorch.so" "$shipped/bin/aztorch-doctor"
}

readonly dist=$PWD/target/dist

# Twice, since the same commit must give the same bytes.
gate_dist() {
    local first=$work/dist-first
    scripts/dist.sh
    rm -rf "$first"
    mv "$dist" "$first"
    scripts/dist.sh
    diff -r "$first" "$dist" || fail 'two runs have made different files'
    rm -rf "$first"
}

# same_version PLACE FOUND
same_version() {
    [[ $2 == "$(scripts/version.sh)" ]] || fail "$1 has version '$2', and Cargo.toml $(scripts/version.sh)"
    echo "$1: $2"
}

# What is in target/dist, as README's line unpacks it.
gate_tarball() {
    local folder name lib
    name=aztorch-$(scripts/version.sh)-linux-$(uname -m)
    folder=$(mktemp -d)
    # shellcheck disable=SC2064 # the variable is local
    trap "rm -rf '$folder'" EXIT
    (cd "$dist" && sha256sum --check --strict SHA256SUMS)
    [[ $(tar -tzf "$dist/$name.tar.gz" | sed 's|/.*||' | sort -u) == "$name" ]] || fail 'not one folder in the tarball'
    mkdir "$folder/.local"
    HOME=$folder bash -euxc "$(block README.md sh 4 | grep '^tar ')"
    lib=$folder/.local/lib
    diff -r "$folder/.local" "$shipped" || fail 'the tarball is not what was tested'

    same_version 'the file for pkg-config' "$(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --modversion aztorch)"
    same_version 'the CMake package' "$(sed -n 's/^set(PACKAGE_VERSION "\(.*\)")$/\1/p' "$lib/cmake/aztorch/aztorch-config-version.cmake" | head -n 1)"
    same_version 'the header' "$(sed -n 's/^#define AZT_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$folder/.local/include/aztorch.h" | paste -sd .)"
    same_version 'the SBOM' "$("$python" -c '
import json, sys
bom = json.load(open(sys.argv[1]))
names = {component["name"] for component in bom["components"]}
lacking = {"tokio", "hyper", "rustls", "aws-lc-sys", "azure_storage_blob"} - names
assert not lacking and len(names) > 100, (lacking, len(names))
print(bom["metadata"]["component"]["version"])' "$dist/$name.cdx.json")"
    local package
    for package in libaztorch0 libaztorch-dev aztorch-doctor; do
        lib=$(dpkg-deb --field "$dist/${package}_"*.deb Version)
        same_version "$package" "${lib%-*}"
    done
}
