#!/usr/bin/env bash
# Prints the version, which stands in Cargo.toml only. Header, .pc file, CMake package and .deb take it from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' Cargo.toml | head -n 1)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || { echo "Cargo.toml has no version: '$version'" >&2 && exit 1; }
echo "$version"
