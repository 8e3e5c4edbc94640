#!/usr/bin/env bash
# Joins what `make dist` has made on several machines into one folder with one SHA256SUMS: release_assets.sh OUT FOLDER…
# Each FOLDER has a SHA256SUMS that lists all of its other files. OUT appears only if all files are as their lists say.
set -euo pipefail
shopt -s nullglob dotglob

fail() {
    echo "$*" >&2
    exit 1
}

(($# >= 2)) || { echo "usage: $0 OUT FOLDER…" >&2 && exit 2; }
out=$1
shift
rm -rf "$out" "$out.partial"
mkdir -p "$out.partial"
for folder; do
    [[ -f $folder/SHA256SUMS ]] || fail "$folder has no SHA256SUMS: make dist writes it"
    (cd "$folder" && sha256sum --check --strict --quiet SHA256SUMS >&2) || fail "$folder: a file is not what was built"
    listed=" $(sed 's/^[0-9a-f]* [ *]//' "$folder/SHA256SUMS" | tr '\n' ' ')"
    for file in "$folder"/*; do
        name=${file##*/}
        [[ $name == SHA256SUMS ]] && continue
        [[ -f $file && ! -L $file ]] || fail "$file is not a plain file"
        [[ $listed == *" $name "* ]] || fail "$folder/SHA256SUMS does not list $name"
        # A file for all machines must be the same from each of them.
        [[ ! -e $out.partial/$name ]] || cmp "$file" "$out.partial/$name" >&2 || fail "two folders have different files $name"
        cp "$file" "$out.partial/$name"
    done
done
(cd "$out.partial" && LC_ALL=C && sha256sum -- * >SHA256SUMS) # the names are expanded before the file exists
mv "$out.partial" "$out"
ls -l "$out"
