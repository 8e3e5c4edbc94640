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
    assert_manylinux "$shipped/lib/libaztorch.so" "$shipped/bin/aztorch-doctor"
}
