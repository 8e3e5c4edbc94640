#!/usr/bin/env bash
# Prints the software bill of materials of what is shipped, as CycloneDX 1.5: each crate with version, checksum and licence.
# cargo-cyclonedx makes it. It takes a minute to build, and is kept in a cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly version=0.5.9
readonly home=${AZTORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aztorch}/cargo-cyclonedx-$version
# It writes its file beside each Cargo.toml.
readonly name=aztorch-sbom

if [[ ! -x $home/bin/cargo-cyclonedx ]]; then
    echo "Installing cargo-cyclonedx $version under $home (usually 80 s)" >&2
    # Without optimisation it builds in half of the time.
    cargo install --quiet --locked --debug --root "$home" "cargo-cyclonedx@$version" >&2
fi
trap 'rm -f {.,doctor,fuzz}/$name.json' EXIT
"$home/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --target "$(uname -m)-unknown-linux-gnu" \
    --no-build-deps --override-filename $name >&2
# That of the library. The doctor uses no other crate. Paths of this machine are not for others.
sed "s|path+file://$PWD|path+file:///aztorch|g" $name.json
