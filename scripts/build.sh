#!/usr/bin/env bash
# Builds what a user deploys into dist/: latchkey.wasm, liblatchkey.so, latchkey and SHA256SUMS.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
MUSL=$(uname -m)-unknown-linux-musl

# publish FILE NAME MODE: puts a file into dist/ under a name, all at once.
publish() {
    install -m "$3" "$1" "$DIST/.$2.$$"
    mv -f "$DIST/.$2.$$" "$DIST/$2"
}

build_filter() {
    say "Building the filter."
    # As a cdylib alone: with the rlib beside it there is no link-time optimisation. And without this machine's paths. SIMD, which
    # Envoy's V8 takes, spares a request half a microsecond.
    RUSTFLAGS="-C target-feature=+simd128 --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$ROOT=latchkey" \
        cargo rustc --locked -p latchkey --lib --crate-type cdylib --target wasm32-wasip1 --profile plugin
    # The list says what Envoy needs of it.
    local built=$TARGET_DIR/wasm32-wasip1/plugin
    cargo run --locked --quiet -p latchkey-lean -- src/shell/exports.txt "$built/latchkey.wasm" "$built/latchkey.lean.wasm"
    publish "$built/latchkey.lean.wasm" latchkey.wasm 0644
}

# For Envoys on glibc 2.28 and later, and without libgcc_s, which Envoy's own image has not.
build_native_filter() {
    local gnu zig
    gnu=$(uname -m)-unknown-linux-gnu
    zig=$(zig_venv)
    say "Building the native filter."
    local flags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$ROOT=latchkey"
    if [ -x "$zig/bin/cargo-zigbuild" ]; then
        RUSTFLAGS=$flags CARGO_ZIGBUILD_PYTHON_PATH=$zig/bin/python PATH=$zig/bin:$PATH \
            cargo zigbuild --locked -p latchkey-native --profile native --target "$gnu.2.28"
        publish "$TARGET_DIR/$gnu/native/liblatchkey_native.so" liblatchkey.so 0755
    else
        warn "Building the native filter for this machine only: others need cargo-zigbuild and zig."
        RUSTFLAGS=$flags cargo build --locked -p latchkey-native --profile native
        publish "$TARGET_DIR/native/liblatchkey_native.so" liblatchkey.so 0755
    fi
}

build_service() {
    if have musl-gcc && [ -d "$(rustc --print target-libdir --target "$MUSL")" ]; then
        say "Building the service (static, release); the first time takes some minutes."
        cargo build --locked --release --target "$MUSL" -p latchkey-admin
        publish "$TARGET_DIR/$MUSL/release/latchkey" latchkey 0755
    else
        warn "Building the service for this machine only: the container image needs the static one, which needs musl-gcc."
        cargo build --locked --release -p latchkey-admin
        publish "$TARGET_DIR/release/latchkey" latchkey 0755
    fi
}

"$SCRIPTS/setup.sh" rust wasm zig musl
cd "$ROOT"
only_one build
mkdir -p "$DIST"
build_filter
build_native_filter
build_service
(cd "$DIST" && sha256sum latchkey latchkey.wasm liblatchkey.so >".SHA256SUMS.$$" && mv -f ".SHA256SUMS.$$" SHA256SUMS)
size() { stat -c %s "$DIST/$1"; }
say "dist/latchkey.wasm: $(($(size latchkey.wasm) / 1024)) KiB; dist/liblatchkey.so: $(($(size liblatchkey.so) / 1024)) KiB; dist/latchkey: $(($(size latchkey) / 1024)) KiB."
