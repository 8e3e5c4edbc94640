#!/usr/bin/env bash
# Prints the notes of a release, which are its section of CHANGELOG.md: release_notes.sh [TAG]
# Fails if the section is missing, empty or without a date, or if TAG is not the version of Cargo.toml with a v before it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "$*" >&2
    exit 1
}

version=$(scripts/version.sh)
tag=${1:-v$version}
[[ $tag == "v$version" ]] || fail "the tag is $tag, but the version in Cargo.toml is $version: the tag must be v$version"

# The heading may be a link: ## [0.1.0] - 2026-12-01
heading="## [$version] - "
date=$(HEADING=$heading awk 'index($0, ENVIRON["HEADING"]) == 1 { print substr($0, length(ENVIRON["HEADING"]) + 1) }' \
    CHANGELOG.md)
[[ $date =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
    fail "CHANGELOG.md has no section for $version: it needs one heading '${heading}YYYY-MM-DD'"
date --date "$date" >/dev/null || fail "CHANGELOG.md: $date is no date"

# Command substitution drops the empty lines at the end, the second expression those at the beginning.
notes=$(HEADING=$heading awk '/^## / { inside = index($0, ENVIRON["HEADING"]) == 1; next } inside' CHANGELOG.md |
    sed '/./,$!d')
[[ -n $notes ]] || fail "CHANGELOG.md: the section of $version is empty"
echo "$notes"
