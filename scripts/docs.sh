#!/usr/bin/env bash
# Builds the documentation as one site of files: docs.sh. Its start page is target/docs/index.html.
#
#   target/docs/           the Markdown files of the repository and the reference of the Python package, by Sphinx
#   target/docs/reference/ the C and C++ headers, by Doxygen
#   target/docs/crate/     the Rust crate, by rustdoc
#
# A warning of any of these tools fails, and so does a dead link in the site. docs/site/ has the settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
readonly target
readonly tools=target/docs-tools
export AZTORCH_SITE=target/docs
AZTORCH_VERSION=$(scripts/version.sh)
export AZTORCH_VERSION

# What an earlier `cargo doc` left, of this crate or of others, is not for the site.
rm -rf "$AZTORCH_SITE" "$target/doc"

echo '== Sphinx'
PYTHONPATH=$tools:python PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m sphinx --quiet --nitpicky --fail-on-warning \
    --fresh-env --conf-dir docs/site --doctree-dir target/docs-doctrees -D "html_title=aztorch $AZTORCH_VERSION" \
    . "$AZTORCH_SITE"
cp "$AZTORCH_SITE/README.html" "$AZTORCH_SITE/index.html"

echo '== Doxygen'
version=$(doxygen --version)
[[ $version == 1.9.4* ]] || echo "The settings are those for Doxygen 1.9.4, and this is $version. It may warn of more."
doxygen docs/site/Doxyfile

echo '== rustdoc'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --lib
cp -R "$target/doc" "$AZTORCH_SITE/crate"
# rustdoc's own help page links to a list of crates, which it makes on the nightly channel only.
echo '<meta http-equiv="refresh" content="0; url=aztorch/index.html">' >"$AZTORCH_SITE/crate/index.html"

echo '== Links'
# Two kinds of links are dead for lychee only: a range of lines of a Rust file, which rustdoc's script reads; and a link
# in the documentation of `tracing` that rustdoc shows in ours, since our types get a trait of that crate.
"$tools/bin/lychee" --offline --include-fragments --no-progress "$AZTORCH_SITE" \
    --exclude '\.rs\.html#[0-9]+-[0-9]+$' --exclude '/dispatcher#setting-the-default-subscriber$'
