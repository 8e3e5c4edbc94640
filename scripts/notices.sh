#!/usr/bin/env bash
# Writes THIRD-PARTY-LICENSES.txt: the licences of all crates that are inside of the library and of aztorch-doctor.
#
# The file is committed, since cargo-about takes 6 minutes of a processor to build, and 2 to run. It is kept in a cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly version=0.9.3
readonly home=${AZTORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aztorch}/cargo-about-$version

[[ -x $home/bin/cargo-about ]] || cargo install cargo-about --version $version --locked --features cli --root "$home"
cargo fetch --locked
"$home/bin/cargo-about" generate --workspace --locked --offline --fail --config packaging/notices/about.toml \
    packaging/notices/about.hbs --output-file THIRD-PARTY-LICENSES.txt.new
# Lines from the texts of others, some of which have line ends of Windows, or spaces at their ends.
sed -i 's/[ \r]*$//' THIRD-PARTY-LICENSES.txt.new
mv THIRD-PARTY-LICENSES.txt.new THIRD-PARTY-LICENSES.txt
