# The gates of the scripts, and of aztorch-doctor. scripts/gates.sh reads this file.

gate_setup() { scripts/setup_test.sh; }

# SC2154: the variables of the files in scripts/gates/ are set in scripts/gates.sh.
gate_shell() {
    target/tools/bin/shellcheck --shell=bash scripts/*.sh .ci/run
    target/tools/bin/shellcheck --shell=bash --exclude=SC2154 scripts/gates/*.sh
}

gate_launcher() {
    local line server
    # The launcher's stdin is closed, as after its parent was killed.
    line=$(sleep 2 | node tests/support/azurite.mjs --log "$work/$gate.server.log")
    server=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' <<<"$line")
    [[ -n $server ]] || fail "no pid in: $line"
    ! kill -0 "$server" 2>/dev/null || fail "server $server outlived its launcher"
    # The launcher returns the command's exit code, and logs the requests.
    local code=0
    with_server bash -c 'exit 7' || code=$?
    ((code == 7)) || fail "exit code $code instead of 7"
    grep -qE '"PUT /devstoreaccount1/test-[^ ]* HTTP/1.1" 201 ' "$work/$gate.server.log" || fail 'no request in the log'
}

# Builds the whole workspace, so that the library of the gate rust is used. The doctor alone would rebuild it without the
# features that the tests enable.
gate_doctor() { cargo test --locked --workspace --test doctor; }
