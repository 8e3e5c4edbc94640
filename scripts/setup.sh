#!/usr/bin/env bash
# Checks that this machine has everything that `make PURPOSE` needs:
# setup.sh build|check|demo|dist|docs|test|test-torch2|wheel
# Lists everything that is missing or too old at once, each with the command that installs it. As root, it then installs
# the packages that Debian's apt has. Azurite, its Node and packages for Python are installed under target/ only, PyPI's
# torch in a cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly azurite_version=3.37.0
# One gate uses an older Azurite, which users still run and which checks less.
readonly earlier_azurite=3.35 earlier_azurite_version=3.35.0
# Azurite 3.37 needs Node 22, which is installed from npm. The machine's own Node runs only npm and
# tests/support/azurite.mjs, and may be Debian 12's.
readonly node_version=22.23.3 node_major=18
# Debian has no package of these, or an old one. Newer versions that its Python accepts would also work.
readonly wheels=(pyarrow==21.0.0 grpcio==1.74.0)
readonly python=/usr/bin/python3
readonly apt_install='apt-get install -y --no-install-recommends'

purpose=${1:-test}
case $purpose in
build | check | demo | dist | docs | test | test-torch2 | wheel) ;;
*) echo "usage: $0 build|check|demo|dist|docs|test|test-torch2|wheel" >&2 && exit 2 ;;
esac

lines=()    # the missing requirements, one readable line each
packages=() # the missing packages that apt has

as_root() { [[ $EUID -eq 0 ]]; }
sudo_prefix() { as_root || echo 'sudo '; }

lack() { # WHAT FOUND COMMAND
    lines+=("$(printf '  %-22s %-16s %s' "$1" "$2" "$3")")
}

lack_package() { # WHAT PACKAGE
    [[ " ${packages[*]} " == *" $2 "* ]] && return
    packages+=("$2")
    lack "$1" missing "$(sudo_prefix)$apt_install $2"
}

need_command() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || lack_package "$1" "$2"
}

at_least() { # WANTED FOUND
    [[ $(printf '%s\n%s\n' "$1" "$2" | sort --version-sort | head -n 1) == "$1" ]]
}

need_cargo() {
    local said wanted found
    said=$(scripts/need_cargo.sh 2>&1) && return
    wanted=${said#*cargo } found=${said#*found }
    [[ $said != *': curl '* ]] || command -v curl >/dev/null || lack_package curl curl
    lack "cargo >= ${wanted%% *}" "${found%%:*}" "${said#*: }"
}

need_cargo_component() { # SUBCOMMAND COMPONENT
    command -v cargo >/dev/null || return 0 # need_cargo reports it, and its command installs both
    cargo "$1" --version >/dev/null 2>&1 || lack "cargo $1" missing "rustup component add $2"
}

need_npm() {
    local found
    found=$(node --version 2>/dev/null) || found=missing
    if [[ $found != missing ]] && ! at_least "$node_major" "${found#v}"; then
        command -v curl >/dev/null || lack_package curl curl
        lack "node >= $node_major" "$found" "curl -fsSL https://deb.nodesource.com/setup_${node_version%%.*}.x \
| $(as_root || echo 'sudo -E ')bash - && $(sudo_prefix)apt-get install -y nodejs"
    elif ! npm --version >/dev/null 2>&1; then
        lack_package npm npm # also installs Node
    fi
}

need_ca_certificates() {
    local bundle
    for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        [[ -n $bundle && -e $bundle ]] && return
    done
    lack_package 'CA certificates' ca-certificates
}

need_libtorch() {
    [[ -n ${Torch_DIR:-}${CMAKE_PREFIX_PATH:-} ]] && return # the user's own LibTorch, which CMake checks
    compgen -G '/usr/lib/*/cmake/Torch/TorchConfig.cmake' >/dev/null || lack_package LibTorch libtorch-dev
}

need_gloo() {
    # LibTorch's header for gloo's process group includes gloo's own headers.
    g++ -E -x c++ - <<<'#include <gloo/config.h>' >/dev/null 2>&1 || lack_package 'gloo headers' libgloo-dev
}

need_python_torch() {
    # Importing torch takes seconds; finding it does not.
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null ||
        lack_package 'torch for Python' python3-torch
}

need_pip() {
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' 2>/dev/null ||
        lack_package 'pip for Python' python3-pip
}

need_venv() {
    # Debian's python3 has the module venv, but not the ensurepip that it needs.
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("ensurepip") is None)' 2>/dev/null ||
        lack_package 'venv for Python' python3-venv
}

need_asan() {
    command -v gcc >/dev/null || return 0 # its package has the sanitizers too
    [[ $(gcc -print-file-name=libasan.so) == /* ]] || lack_package AddressSanitizer libgcc-12-dev
}

check_all() {
    lines=() packages=()
    need_cargo
    need_ca_certificates
    need_command gcc gcc
    # The package `gcc` alone does not install the C library's headers.
    [[ -e /usr/include/stdio.h ]] || lack_package 'C headers' libc6-dev
    [[ $purpose == build ]] && return
    if [[ $purpose == docs || $purpose == test ]]; then
        need_command doxygen doxygen
        need_command "$python" python3
        need_pip
        need_command strip binutils
    fi
    [[ $purpose == docs ]] && return
    if [[ $purpose == check || $purpose == dist || $purpose == test* || $purpose == wheel ]]; then
        need_command "$python" python3
        need_venv
        need_command readelf binutils
    fi
    if [[ $purpose == dist || $purpose == test || $purpose == wheel ]]; then
        need_command git git
    fi
    [[ $purpose == wheel ]] && return
    if [[ $purpose == dist || $purpose == test ]]; then
        need_command dh debhelper
    fi
    [[ $purpose == dist ]] && return
    need_command g++ g++
    if [[ $purpose == test-torch2 ]]; then
        need_command cmake cmake
        need_gloo
        need_pip
        need_npm
    fi
    if [[ $purpose == check || $purpose == test ]]; then
        need_cargo_component fmt rustfmt
        need_cargo_component clippy clippy
        need_command abidiff abigail-tools
        need_command envsubst gettext-base # fills in the manifest of cpp-examples/aks
    fi
    if [[ $purpose == demo || $purpose == test ]]; then
        need_command cmake cmake
        need_libtorch
        need_gloo
        need_python_torch
        wants_azurite && need_npm
    fi
    if [[ $purpose == test ]]; then
        need_asan
        need_command valgrind valgrind
        need_command pkg-config pkg-config
        need_command lintian lintian
        need_command openssl openssl # makes a certificate for the tests over https
    fi
    return 0
}

wants_azurite() {
    [[ $purpose == test* || ($purpose == demo && -z ${AZTORCH_URL:-}) ]]
}

install_packages() {
    # shellcheck disable=SC2206 # apt_install has several words
    local install=($apt_install -o DPkg::Lock::Timeout=120 "${packages[@]}")
    export DEBIAN_FRONTEND=noninteractive
    echo "Installing: ${packages[*]}"
    # A fresh image has no package lists; the lists of an old one name files that no longer exist.
    "${install[@]}" || { apt-get update && "${install[@]}"; }
}

list_missing() {
    echo "make $purpose needs, and this machine lacks:"
    printf '%s\n' "${lines[@]}"
    if ((${#packages[@]} > 1)) && ! as_root; then
        echo "All packages at once: sudo $apt_install ${packages[*]}"
    fi
}

need_tools() {
    check_all
    ((${#lines[@]} == 0)) && return
    list_missing >&2
    if ((${#packages[@]} > 0)) && as_root && command -v apt-get >/dev/null; then
        install_packages >&2 || echo 'apt could not install all packages.' >&2
        check_all
        ((${#lines[@]} == 0)) && return
        { echo && list_missing; } >&2
    fi
    exit 1
}

need_npm_package() { # HOME PACKAGE VERSION
    local home=target/$1 partial=target/$1.partial installed
    installed=$(sed -n 's/^ *"version": "\(.*\)",*$/\1/p' "$home/node_modules/$2/package.json" 2>/dev/null) || true
    [[ $installed == "$3" ]] && return
    echo "Installing $2 $3 under $home (usually less than a minute)"
    # Moved into place when complete, so that an interrupted install is never used.
    rm -rf "$partial"
    mkdir -p "$partial"
    npm install --prefix "$partial" --cache "$partial/cache" --ignore-scripts --no-audit --no-fund \
        --no-update-notifier --loglevel=error "$2@$3"
    rm -rf "$partial/cache"
    rm -rf "$home"
    mv "$partial" "$home"
}

need_azurite() {
    # The package `node` would find this one by an install script, which --ignore-scripts turns off.
    need_npm_package node "node-linux-$(node -p process.arch)" "$node_version"
    need_npm_package azurite azurite "$azurite_version"
    [[ $purpose != test ]] || need_npm_package "azurite-$earlier_azurite" azurite "$earlier_azurite_version"
}

install_from_pypi() { # FOLDER ARGUMENT-OF-PIP…
    "$python" -m pip install --quiet --no-input --disable-pip-version-check --root-user-action=ignore --no-compile \
        --no-deps --only-binary :all: --target "$@"
}

need_wheels() {
    local home=target/wheels partial=target/wheels.partial
    [[ $(cat $home/installed 2>/dev/null) == "${wheels[*]}" ]] && return
    echo "Installing ${wheels[*]} under $home (usually 20 s)"
    rm -rf $home $partial
    install_from_pypi $partial "${wheels[@]}"
    echo "${wheels[*]}" >$partial/installed
    mv $partial $home
}

# Installs the tools of scripts/python_tools.txt, and what builds the Python package.
need_python_tools() {
    local home=target/tools lists=(scripts/python_tools.txt scripts/python_build.txt)
    cat "${lists[@]}" | cmp --quiet - $home/installed && return
    echo "Installing the tools of ${lists[*]} under $home (usually 20 s)"
    # Programs in a venv name its path, so it cannot be moved into place. The file `installed` says that it is complete.
    rm -rf $home
    "$python" -m venv $home
    $home/bin/python -m pip install --quiet --no-input --disable-pip-version-check --no-deps --only-binary :all: \
        "${lists[@]/#/--requirement=}"
    $home/bin/python -m pip check --disable-pip-version-check
    cat "${lists[@]}" >$home/installed
}

# Downloads what pip installs when it builds and installs the Python package.
need_python_build() {
    local home=target/python-build list=scripts/python_build.txt
    cmp --quiet $list $home/downloaded && return
    echo "Downloading the packages of $list to $home (usually 2 s)"
    rm -rf $home
    target/tools/bin/python -m pip download --quiet --no-input --disable-pip-version-check --no-deps \
        --only-binary :all: --requirement $list --dest $home
    cp $list $home/downloaded
}

# Makes the environment in which the tests of the Python package run. It has the packages of another folder, too.
need_python_env() { # HOME FOLDER LIST… [OPTION-OF-VENV]
    local home=$1 folder=$2 lists=("$3" "$4") options=("${@:5}") wanted
    wanted=$("$python" --version && echo "$folder" && cat "${lists[@]}")
    [[ $(cat "$home/installed" 2>/dev/null) == "$wanted" ]] && return
    echo "Installing the packages of ${lists[*]} under $home (usually 20 s)"
    rm -rf "$home"
    "$python" -m venv --without-pip "${options[@]}" "$home"
    "$python" -m pip --python "$home/bin/python" install --quiet --no-input --disable-pip-version-check \
        --root-user-action=ignore --no-deps --only-binary :all: "${lists[@]/#/--requirement=}"
    echo "$folder" >"$(echo "$home"/lib/python3*/site-packages)/beside.pth"
    echo "$wanted" >"$home/installed"
}

need_docs_tools() {
    local home=target/docs-tools partial=target/docs-tools.partial
    cmp -s docs/site/requirements.txt $home/requirements.txt && return
    echo "Installing Sphinx and lychee under $home (usually 20 s)"
    rm -rf $home $partial
    install_from_pypi $partial --requirement docs/site/requirements.txt
    strip $partial/bin/lychee # 300 MB of it are for debuggers
    cp docs/site/requirements.txt $partial/
    mv $partial $home
}

# Makes the environment with PyPI's torch, or waits while another checkout makes it.
need_torch2() {
    local partial=$torch2_home.partial wanted lock
    # An environment works only with the Python that made it.
    wanted=$("$python" --version && sed '/^#/d' scripts/torch2-requirements.txt)
    mkdir -p "$(dirname "$torch2_home")"
    exec {lock}>"$torch2_home.lock"
    flock "$lock"
    if [[ $(cat "$torch2_home/installed" 2>/dev/null) != "$wanted" ]]; then
        echo "Installing torch $torch2_version under $torch2_home (a download of 2.7 GB; usually 2 min)"
        rm -rf "$torch2_home" "$partial"
        "$python" -m venv --without-pip "$partial"
        "$python" -m pip --python "$partial/bin/python" install --quiet --no-input --disable-pip-version-check \
            --root-user-action=ignore --no-cache-dir --no-compile --no-deps --only-binary :all: \
            -r scripts/torch2-requirements.txt
        # Tries it, and lets Python compile the modules that the tests import, which then saves 6 s each time.
        env --unset=PYTHONDONTWRITEBYTECODE "$partial/bin/python" -W ignore -c \
            'import torch.distributed.checkpoint, torch.distributed.run'
        echo "$wanted" >"$partial/installed"
        mv "$partial" "$torch2_home"
    fi
    exec {lock}>&-
}

need_tools
if wants_azurite; then
    need_azurite
fi
if [[ $purpose == test ]]; then
    need_wheels
fi
if [[ $purpose == check || $purpose == dist || $purpose == test* || $purpose == wheel ]]; then
    need_python_tools
fi
if [[ $purpose == test ]]; then
    need_python_build
    need_python_env target/python-env "$PWD/target/wheels" scripts/python_env.txt scripts/python_env_torch1.txt \
        --system-site-packages
fi
if [[ $purpose == docs || $purpose == test ]]; then
    need_docs_tools
fi
if [[ $purpose == test-torch2 ]]; then
    # shellcheck source=scripts/torch2.sh
    . scripts/torch2.sh
    need_torch2
    need_python_env target/python-env-torch2 "$(echo "$torch2_home"/lib/python3*/site-packages)" scripts/python_env.txt \
        scripts/python_env_torch2.txt
fi
