#!/usr/bin/env bash
# Tests the scripts of a release on a pretended repository. gh, rustup and curl only log their arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/pretended.sh
. scripts/pretended.sh
log=$pretended/log

# works SCRIPT ARG…; fails SCRIPT ARG…
works() { run "$@" || fail "$*: exit status $?"; }
fails() { ! run "$@" || fail "$*: no failure"; }
run() {
    # SC2030 and SC2031: the variables are for this process only.
    # shellcheck disable=SC2030,SC2031
    (cd "$pretended" && PATH=$pretended/bin:$PATH HOME=$pretended "scripts/$1" "${@:2}") >"$output" 2>&1 </dev/null
}
says() { grep -qF -e "$1" "$output" || fail "not said: $1"; }
logged() { grep -qxF -e "$1" "$log" || { cat "$log" && fail "not called: $1"; }; }

version() { # VERSION
    printf '[workspace.package]\nversion = "%s"\nrust-version = "1.77"\n\n[package]\nversion.workspace = true\n' "$1" \
        >"$pretended/Cargo.toml"
}

changelog() { # LINE…
    printf '# Changelog\n\n' >"$pretended/CHANGELOG.md"
    printf '%s\n' "$@" >>"$pretended/CHANGELOG.md"
}

mkdir -p "$pretended/bin" "$pretended/scripts"
cp scripts/version.sh scripts/release_notes.sh scripts/release_assets.sh scripts/publish_release.sh scripts/toolchain.sh \
    "$pretended/scripts"

echo '== notes'
version 0.2.0
changelog '## [Unreleased]' '' '- later' '' '## [0.2.0] - 2026-12-01' '' '### Reading' '' '- faster' '' \
    '## [0.1.0] - 2026-11-01' '' '- first'
works release_notes.sh v0.2.0
[[ $(cat "$output") == $'### Reading\n\n- faster' ]] || fail 'other notes'
works release_notes.sh
fails release_notes.sh v0.1.0
says 'the tag must be v0.2.0'
fails release_notes.sh 0.2.0
version 0.1.0
works release_notes.sh v0.1.0
[[ $(cat "$output") == '- first' ]] || fail 'other notes'
# 0.1.0 is not a part of the name of 0.1.01, nor a pattern for 0.1x0.
version 0.1.01
fails release_notes.sh
says "CHANGELOG.md has no section for 0.1.01: it needs one heading '## [0.1.01] - YYYY-MM-DD'"
version 0.1.0
changelog '## [0.1x0] - 2026-11-01' '' '- first'
fails release_notes.sh
changelog '## [Unreleased]' '' '- first'
fails release_notes.sh
changelog '## [0.1.0]' '' '- without a date'
fails release_notes.sh
changelog '## [0.1.0] - 2026-13-01' '' '- in no month'
fails release_notes.sh
says '2026-13-01 is no date'
changelog '## [0.1.0] - 2026-11-01' '' '## [0.0.9] - 2026-10-01' '' '- earlier'
fails release_notes.sh
says 'the section of 0.1.0 is empty'
changelog '## [0.1.0] - 2026-11-01' '' '- a' '' '## [0.1.0] - 2026-11-02' '' '- b'
fails release_notes.sh
says 'it needs one heading'

echo '== assets'
dist() { # FOLDER FILE…: what `make dist` makes
    mkdir -p "$pretended/$1"
    (cd "$pretended/$1" && for file in "${@:2}"; do echo "content of $file" >"$file"; done && sha256sum -- "${@:2}" >SHA256SUMS)
}
assets() { run release_assets.sh out parts/x86_64 parts/aarch64; }
dist parts/x86_64 a_x86_64.tar.gz source.tar.gz
dist parts/aarch64 a_aarch64.tar.gz source.tar.gz
works release_assets.sh out parts/x86_64 parts/aarch64
(cd "$pretended/out" && sha256sum --check --strict --quiet SHA256SUMS) || fail 'wrong checksums'
[[ $(sed 's/.* //' "$pretended/out/SHA256SUMS") == $'a_aarch64.tar.gz\na_x86_64.tar.gz\nsource.tar.gz' ]] ||
    fail 'other files are listed'
works release_assets.sh out parts/x86_64 # also when there is an earlier one
[[ $(ls "$pretended/out") == $'SHA256SUMS\na_x86_64.tar.gz\nsource.tar.gz' ]] || fail 'files of an earlier call are left'
rm -r "$pretended/out"

refused() { # WHAT
    ! assets || fail "accepted: $1"
    [[ ! -e $pretended/out ]] || fail "made in spite of: $1"
}
echo changed >"$pretended/parts/aarch64/a_aarch64.tar.gz"
refused 'a file that was changed'
dist parts/aarch64 a_aarch64.tar.gz source.tar.gz
echo forgotten >"$pretended/parts/aarch64/notes.txt"
refused 'a file that is not listed'
says 'does not list notes.txt'
rm "$pretended/parts/aarch64/notes.txt"
rm "$pretended/parts/aarch64/source.tar.gz"
refused 'a file that is missing'
echo different >"$pretended/parts/aarch64/source.tar.gz"
(cd "$pretended/parts/aarch64" && sha256sum -- *.tar.gz >SHA256SUMS)
refused 'two files of one name'
says 'two folders have different files source.tar.gz'
rm -r "$pretended/parts/aarch64"
refused 'a folder that is missing'
says 'parts/aarch64 has no SHA256SUMS'

echo '== publish'
# The last argument is a file name; the notes are in the standard input.
pretend gh "echo \"gh \$*\" >>'$log'; cat >'$pretended/notes'"
changelog '## [0.1.0] - 2026-11-01' '' '- first'
works release_assets.sh out parts/x86_64
works publish_release.sh v0.1.0 out
logged "gh release create v0.1.0 --verify-tag --title aztorch 0.1.0 --notes-file - \
out/SHA256SUMS out/a_x86_64.tar.gz out/source.tar.gz"
[[ $(cat "$pretended/notes") == '- first' ]] || fail 'other notes'
version 0.1.0-rc.1
changelog '## [0.1.0-rc.1] - 2026-10-01' '' '- try it'
works publish_release.sh v0.1.0-rc.1 out
grep -q -- '--title aztorch 0.1.0-rc.1 --prerelease ' "$log" || fail 'a release candidate is not marked'
rm "$log"
fails publish_release.sh v0.1.0 out
fails publish_release.sh v0.1.0-rc.1 parts
[[ ! -e $log ]] || fail 'gh was called in spite of an error'
pretend gh 'exit 1'
fails publish_release.sh v0.1.0-rc.1 out

echo '== toolchain'
pretend rustup "echo \"rustup \$*\" >>'$log'; [ \"\$1\" != run ]"
CI=false fails toolchain.sh minimum
says 'This installs it on this machine'
! grep -E 'rustup (toolchain|default)' "$log" || fail 'a machine was changed without CI=true'
export CI=true
works toolchain.sh minimum
logged 'rustup toolchain install 1.77 --profile minimal --component rustfmt,clippy --no-self-update'
logged 'rustup default 1.77'
works toolchain.sh stable
logged 'rustup default stable'
rm "$log"
pretend rustup "echo \"rustup \$*\" >>'$log'"
works toolchain.sh stable
says 'is not updated'
! grep -E 'rustup (toolchain|default)' "$log" || fail 'an installed toolchain was changed'
fails toolchain.sh
fails toolchain.sh ''
# Without rustup. The directories of PATH have it on many machines, so only the needed commands are there.
rm "$pretended/bin/rustup" "$log"
for tool in bash cat chmod dirname env mkdir sed sh; do
    ln -s "$(type -P "$tool")" "$pretended/bin/$tool"
done
pretend curl "echo \"curl \$*\" >>'$log'
echo 'echo \"sh \$*\" >>$log; mkdir -p $pretended/.cargo/bin; cp $pretended/rustup $pretended/.cargo/bin'"
ln -s "$(type -P cp)" "$pretended/bin/cp"
printf '#!/bin/sh\necho "rustup $*" >>%s\n[ "$1" != run ]\n' "$log" >"$pretended/rustup"
chmod +x "$pretended/rustup"
(cd "$pretended" && env -i PATH="$pretended/bin" HOME="$pretended" CI=true GITHUB_PATH="$pretended/path" scripts/toolchain.sh 1.99) \
    >"$output" 2>&1 || fail "without rustup: exit status $?"
logged "curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs"
logged 'sh -y --no-modify-path --profile minimal --default-toolchain none'
logged 'rustup default 1.99'
[[ $(cat "$pretended/path") == "$pretended/.cargo/bin" ]] || fail 'the next steps would not find cargo'

echo '== the headings of CHANGELOG.md'
! grep '^## ' CHANGELOG.md |
    grep -vE '^## \[(Unreleased\]|[0-9]+\.[0-9]+\.[0-9]+(-[^]]+)?\] - [0-9]{4}-[0-9]{2}-[0-9]{2})$' ||
    fail 'these headings are not of the form that release_notes.sh reads'
grep -q '^## ' CHANGELOG.md || fail 'CHANGELOG.md has no headings'
