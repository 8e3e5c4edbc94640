#!/usr/bin/env bash
# Makes the GitHub release of a tag, with its notes and files: publish_release.sh TAG FOLDER
# release.yml calls it with GH_TOKEN and GH_REPO. Nothing is visible before all files are attached: gh makes a draft first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 2)) || { echo "usage: $0 TAG FOLDER" >&2 && exit 2; }
tag=$1 folder=$2
command -v gh >/dev/null || { echo 'gh is missing: https://cli.github.com' >&2 && exit 1; }
notes=$(scripts/release_notes.sh "$tag")
[[ -f $folder/SHA256SUMS ]] || { echo "$folder has no SHA256SUMS: make release-assets writes it" >&2 && exit 1; }
options=(--verify-tag --title "aztorch ${tag#v}")
[[ $tag != *-* ]] || options+=(--prerelease) # 1.0.0-rc.1
gh release create "$tag" "${options[@]}" --notes-file - "$folder"/* <<<"$notes"
