#!/usr/bin/env bash
# What a change has to pass before anyone reads it: format, clippy for both targets, documentation, shell scripts.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$SCRIPTS/setup.sh" rust wasm
cd "$ROOT"
say "Format."
cargo fmt --all --check
say "Clippy, native."
cargo clippy --locked --workspace --all-targets -- -D warnings
say "Clippy, wasm32-wasip1."
cargo clippy --locked -p latchkey --lib --target wasm32-wasip1 -- -D warnings
say "Documentation."
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
if have shellcheck; then
    say "Shell scripts."
    shellcheck -x -P SCRIPTDIR scripts/*.sh .ci/run
fi
if have cargo-deny; then
    say "Licences, advisories and sources of dependencies."
    cargo deny --locked check
fi
