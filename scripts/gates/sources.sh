# The gates of the Rust sources. scripts/gates.sh reads this file.

gate_fmt() { cargo fmt --all --check -- --color never; }
gate_links() { "$python" scripts/check_links.py; }
gate_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
gate_header() { cargo test --test header; }
gate_fuzz() { cargo test --lib fuzzing -- --nocapture; }
gate_rust() { cargo test --no-fail-fast; }
