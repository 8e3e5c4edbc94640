#!/usr/bin/env bash
# Succeeds if the machine's cargo can build this library. Otherwise says what is wrong, and the line that mends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || found=
if [[ -n $found && $(printf '%s\n%s\n' "$wanted" "$found" | sort --version-sort | head -n 1) == "$wanted" ]]; then
    exit 0
fi
# Debian 12's cargo is older than the crate allows.
if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    mend=". \"${CARGO_HOME:-$HOME/.cargo}/env\""
elif command -v rustup >/dev/null; then
    mend='rustup update stable && rustup default stable'
else
    mend="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
fi
echo "aztorch needs cargo $wanted or later, and found ${found:-missing}: $mend" >&2
exit 1
