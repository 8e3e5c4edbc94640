# The gate of THIRD-PARTY-LICENSES.txt. scripts/gates.sh reads this file.

# Compares only names and versions of crates, since the tool that writes the texts takes minutes.
gate_notices() {
    local shipped_crates
    shipped_crates=$(cargo tree --locked --workspace --edges normal --target x86_64-unknown-linux-gnu \
        --target aarch64-unknown-linux-gnu --prefix none --no-dedupe --format '{p}' | sed -nE '/^aztorch/d; s/ v([^ ]+).*/ \1/p' | sort -u)
    diff --label 'crates that are shipped' --label 'crates in THIRD-PARTY-LICENSES.txt' -u <(echo "$shipped_crates") \
        <(awk '/^Used by:$/ { inside = 1 } /^-+$/ { inside = 0 } inside && /^  / && !/ itself$/ { sub(/,$/, "", $2); print $1, $2 }' \
            THIRD-PARTY-LICENSES.txt | sort -u) || fail 'THIRD-PARTY-LICENSES.txt is not up to date: make notices'
    wc -l <<<"$shipped_crates"
}
