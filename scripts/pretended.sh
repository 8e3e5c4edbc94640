# A new directory for tests of scripts, with pretended commands in its bin/. setup_test.sh and release_test.sh read this
# file.

pretended=$(mktemp -d)
trap 'rm -rf "$pretended"' EXIT
output=$pretended/output

fail() {
    cat "$output"
    echo "$*" >&2
    exit 1
}

pretend() { # COMMAND SCRIPT-LINE
    printf '#!/bin/sh\n%s\n' "$2" >"$pretended/bin/$1"
    chmod +x "$pretended/bin/$1"
}
