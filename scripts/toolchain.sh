#!/usr/bin/env bash
# Installs a Rust toolchain with rustfmt and clippy, and makes it the default: toolchain.sh minimum|stable|VERSION
# `minimum` is the oldest one that Cargo.toml allows. rustup is installed if it is missing. A toolchain that is there
# already, with both components, is left as it is: `rustup toolchain install` would update it for all users of the machine.
# This is for the workflows, whose containers are thrown away.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 1)) && [[ -n $1 ]] || { echo "usage: $0 minimum|stable|VERSION" >&2 && exit 2; }
toolchain=$1
[[ $toolchain != minimum ]] || toolchain=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

bin=${CARGO_HOME:-$HOME/.cargo}/bin
if ! command -v rustup >/dev/null; then
    # -y also when HOME is not the user's own, as in a workflow's container.
    [[ -x $bin/rustup ]] || curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
        sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
    PATH=$bin:$PATH
    # How a workflow's step changes PATH for the next steps.
    [[ -z ${GITHUB_PATH:-} ]] || echo "$bin" >>"$GITHUB_PATH"
fi
if rustup run "$toolchain" cargo fmt --version >/dev/null 2>&1 &&
    rustup run "$toolchain" cargo clippy --version >/dev/null 2>&1; then
    echo "Rust $toolchain is installed already, and is not updated: $(rustup run "$toolchain" rustc --version)"
    exit
fi
[[ ${CI:-} == true ]] ||
    { echo "Rust $toolchain is missing. This installs it on this machine, and makes it the default: CI=true $0 $1" >&2 && exit 1; }
rustup toolchain install "$toolchain" --profile minimal --component rustfmt,clippy --no-self-update
rustup default "$toolchain"
