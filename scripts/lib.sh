# shellcheck shell=bash
# What the scripts beside this one share: where things are, which Envoy, and how to speak to whoever started them.
# Source it. Progress and errors go to stderr, so that a script's stdout is its result.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this one
{
    SCRIPTS=$ROOT/scripts
    DIST=$ROOT/dist
    RUN_DIR=$ROOT/.run
    STATE_DIR=${STATE_DIR:-$RUN_DIR}
    ENVOY_VERSION=1.40.0
    ZIG_VERSION=0.17.1
    ZIGBUILD_VERSION=0.24.1
    ENVOY_IMAGE=envoyproxy/envoy:v$ENVOY_VERSION
}

say() { printf '==> %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Whether Debian packages can be installed here without asking anyone.
can_apt() { [ "$(id -u)" = 0 ] && have apt-get; }

# A new virtual environment of Python's in a folder.
new_venv() {
    rm -rf "$1"
    if ! python3 -m venv "$1" >&2; then
        if can_apt; then
            say "Installing python3-venv with apt-get."
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >/dev/null </dev/null || true
        fi
        python3 -m venv --clear "$1" >&2 ||
            die "Python's venv module does not work. Install it, on Debian or Ubuntu with: sudo apt-get install python3-venv"
    fi
}

# Where cargo-zigbuild and zig are, which link for an older glibc.
zig_venv() { printf '%s\n' "$RUN_DIR/zig-$ZIG_VERSION"; }

# Runs the rest of the calling script alone: `only_one setup` waits for whoever holds the lock of that name.
only_one() {
    have flock || return 0
    mkdir -p "$RUN_DIR"
    exec {lock}>"$RUN_DIR/$1.lock"
    flock -n "$lock" || { say "Waiting for another $1 in this checkout."; flock "$lock"; }
}

# Whether a Docker engine answers.
docker_answers() { have docker && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# How end-to-end tests start Envoy: LATCHKEY_ENVOY, else Docker where an engine answers, else a process.
launcher() {
    if [ -n "${LATCHKEY_ENVOY:-}" ]; then
        printf '%s\n' "$LATCHKEY_ENVOY"
    elif docker_answers; then
        echo docker
    else
        echo process
    fi
}
