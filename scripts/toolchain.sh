#!/usr/bin/env bash
# Installs a Rust toolchain with rustfmt and clippy, and makes it the default: toolchain.sh minimum|stable|VERSION
# `minimum` is the oldest one that Cargo.toml allows. rustup is installed if it is missing. The workflows use this script.
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
rustup toolchain install "$toolchain" --profile minimal --component rustfmt,clippy --no-self-update
rustup default "$toolchain"
