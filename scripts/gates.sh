#!/usr/bin/env bash
# Runs one of the gates of scripts/test.sh and shows its output: scripts/gates.sh NAME
# The gates are the functions gate_NAME in scripts/gates/*.sh. This file has what several of them use.
# shellcheck disable=SC2034 # those files use the variables
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
readonly target
# What is shipped, which scripts/stage.sh makes. The tests use that file, and not the one that cargo links.
readonly shipped=$target/shipped
readonly work=$PWD/target/gates
export PYTHONDONTWRITEBYTECODE=1
readonly c_flags=(-std=c11 -pedantic -Wall -Wextra -Wstrict-prototypes -Werror -Iinclude)
readonly cpp_flags=(-std=c++17 -pedantic -Wall -Wextra -Werror -Iinclude)
readonly asan_flags=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
readonly tsan_flags=(-fsanitize=thread -fno-omit-frame-pointer)
readonly gate=${1:?usage: gates.sh NAME}

fail() {
    echo "$*" >&2
    exit 1
}

# The torch of Python and the LibTorch of C++: PyPI's in the gates that end in _torch2, otherwise Debian's. $builds is
# where CMake builds, with $torch_arguments. C10_NODEPRECATED takes those deprecated names out of LibTorch's headers
# about which the compiler does not warn.
if [[ $gate == *_torch2 ]]; then
    # shellcheck source=scripts/torch2.sh
    . scripts/torch2.sh
    readonly python=$torch2_home/bin/python builds=$target/cmake/torch2
    [[ -e $torch2_home/installed ]] || fail "torch $torch2_version is missing: scripts/setup.sh test-torch2 installs it"
    readonly torch_arguments=(-DCMAKE_PREFIX_PATH="$(echo "$torch2_home"/lib/python3*/site-packages/torch)"
        -DCMAKE_CXX_FLAGS='-Werror -DC10_NODEPRECATED')
    export PYTHONWARNINGS=error::FutureWarning # of a deprecated function of torch
else
    readonly python=/usr/bin/python3 builds=$target/cmake
    readonly torch_arguments=(-DCMAKE_CXX_FLAGS=-Werror)
fi

# with_server COMMAND…: runs it beside an Azurite of its own; container and log are in the AZTORCH_TEST_* variables.
# The time limit keeps a test that hangs from blocking all the others.
with_server() {
    timeout 600 node tests/support/azurite.mjs --log "$work/$gate.server.log" -- "$@"
}

# with_tls_server COMMAND…: like with_server, over https, with a new certificate that COMMAND trusts by SSL_CERT_FILE.
with_tls_server() {
    local tls=$work/$gate.tls
    make_certificate "$tls"
    timeout 600 node tests/support/azurite.mjs --log "$work/$gate.server.log" --tls "$tls/cert.pem" "$tls/key.pem" -- "$@"
}

# Brings $shipped up to date, which takes two seconds when nothing has changed.
stage_shipped() { scripts/stage.sh "$shipped" --portable --doctor; }

make_certificate() { # DIRECTORY
    mkdir -p "$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$1/key.pem" -out "$1/cert.pem"
}

# blob_url NAME: prints the URL of a blob in the test's container, with the SAS.
blob_url() {
    echo "${AZTORCH_TEST_CONTAINER_URL%%\?*}/$1?${AZTORCH_TEST_CONTAINER_URL#*\?}"
}

for file in scripts/gates/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
done

[[ $(type -t "gate_$gate") == function ]] || fail "no gate is called $gate"
"gate_$gate"
