#!/usr/bin/env bash
# Runs setup.sh on simulated machines: PATH has only the named commands, and apt-get only logs its arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/pretended.sh
. scripts/pretended.sh

bare_machine() {
    local tool
    rm -rf "$pretended/bin"
    mkdir "$pretended/bin"
    for tool in bash cut dirname env head mkdir mv rm sed sh sort; do
        ln -s "$(type -P "$tool")" "$pretended/bin/$tool"
    done
    pretend apt-get "echo \"apt-get \$*\" >>'$pretended/apt'; exit 100"
}

setup() { # PURPOSE: leaves the exit status in $status
    status=0
    PATH=$pretended/bin HOME=$pretended CARGO_HOME=$pretended/cargo AZTORCH_URL=${url:-} \
        scripts/setup.sh "$1" >"$output" 2>&1 || status=$?
}

says() { grep -qE -e "$1" "$output" || fail "not said: $1"; }
says_not() { ! grep -qE -e "$1" "$output" || fail "said: $1"; }
refuses() { ((status == 1)) || fail "exit status $status instead of 1"; }

bare_machine
setup test
refuses
says 'cargo >= 1\.[0-9]+ +missing +curl .*sh\.rustup\.rs'
for package in npm curl gcc g++ cmake binutils abigail-tools gettext-base libgloo-dev valgrind debhelper lintian openssl doxygen; do
    says "missing +(sudo )?apt-get install .* ${package//+/\\+}$"
done
if ((EUID == 0)); then
    grep -q '^apt-get install -y --no-install-recommends .*cmake' "$pretended/apt" || fail 'apt was not asked'
    grep -q '^apt-get update' "$pretended/apt" || fail 'no apt-get update after a failed install'
else
    [[ ! -e $pretended/apt ]] || fail 'apt was asked without being root'
    says 'All packages at once: sudo apt-get install'
fi

bare_machine
setup test-torch2
refuses
for package in npm gcc g++ cmake libgloo-dev; do
    says "missing +(sudo )?apt-get install .* ${package//+/\\+}$"
done
says_not 'libtorch-dev|valgrind'

bare_machine
setup wheel
refuses
for package in gcc git binutils; do
    says "missing +(sudo )?apt-get install .* $package$"
done
says_not 'debhelper|cmake|npm'

# Debian 12's cargo is too old, its Node is not.
bare_machine
pretend cargo 'echo "cargo 1.66.0"'
pretend node 'echo v18.20.4'
pretend npm ''
setup demo
refuses
says 'cargo >= 1\.[0-9]+ +1\.66\.0 '
says_not 'node|npm|binutils|rustfmt'

# A Node that is too old for npm, and one without npm.
bare_machine
pretend node 'echo v12.22.9'
pretend npm ''
setup demo
refuses
says 'node >= 18 +v12\.22\.9 +curl .*deb\.nodesource\.com/setup_22'
pretend node 'echo v20.20.2'
pretend npm 'exit 1'
setup demo
refuses
says 'npm +missing +(sudo )?apt-get install .* npm$'

# rustup updates its own cargo. A real account needs no Node.
bare_machine
pretend cargo 'exit 1'
pretend rustup ''
url='https://account.blob.core.windows.net/container?sig=x' setup demo
refuses
says 'cargo >= 1\.[0-9]+ +missing +rustup update stable'
says_not 'node|npm'

# The documentation needs no C++ compiler.
bare_machine
setup docs
refuses
says 'doxygen +missing +(sudo )?apt-get install .* doxygen$'
says_not 'g\+\+|cmake|node'

# The library alone needs only a C compiler and cargo.
bare_machine
pretend cargo 'echo "cargo 9.9.9 (of the future)"'
pretend gcc ''
setup build
((status == 0)) || fail "a machine that has everything for a build is refused"
