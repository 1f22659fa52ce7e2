#!/usr/bin/env bash
# Every test: test.sh [all|e2e] [arguments of cargo test]. The end-to-end tests run what is in dist/, which is built first.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scope=${1:-all}
shift || true
# Of a whole run, what it leaves behind is searched at the end for the secrets that it made.
whole=$([ $# -gt 0 ] || echo yes)

LATCHKEY_ENVOY=$(launcher)
export LATCHKEY_ENVOY
needed=(python envoy nginx openapi-clients pgbouncer postgres prometheus readme shell)
[ "$LATCHKEY_ENVOY" != docker ] || needed+=(compose)
# Installs what the tests need, as far as this machine can have it.
prepare() {
    "$SCRIPTS/setup.sh" "${needed[@]}"
    local part
    for part in upstreams faketime patroni; do "$SCRIPTS/setup.sh" "$part" || true; done
    if [ "$LATCHKEY_ENVOY" = docker ]; then
        "$SCRIPTS/envoy-image.sh"
        "$SCRIPTS/postgres-image.sh"
    fi
}
# Beside the build, which takes minutes: installing waits for the network most of the time.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
(prepare) >"$log" 2>&1 &
preparing=$!
"$SCRIPTS/build.sh" || { kill "$preparing" 2>/dev/null || true; exit 1; }
say "Waiting for what is installed beside the build."
wait "$preparing" || { cat "$log" >&2; die "What the tests need could not be installed."; }
cat "$log" >&2

# optional PART TESTS: whether there is a part that not every machine can have; else says which tests are skipped without it.
optional() {
    local status=0
    "$SCRIPTS/setup.sh" "$1" || status=$?
    [ "$status" != 0 ] || return 0
    [ "$status" = 3 ] || die "The part $1 could not be installed."
    warn "SKIPPED: $2, for which something is missing."
    return 1
}
# Where these are set, a test that misses what it needs fails.
if optional upstreams "tests of readings:: and gateways::paths::"; then export LATCHKEY_TEST_UPSTREAMS=all; fi
if optional faketime "clocks:: of the command line"; then export LATCHKEY_TEST_FAKETIME=yes; fi
optional patroni "patroni::" || true
if [ "$LATCHKEY_ENVOY" != docker ]; then
    warn "SKIPPED, as Envoy runs as a process: the tests that only containers make honest (in_docker::)."
    case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac
    set -- "$@" --skip in_docker::
fi
# Most of them wait for something most of the time: three for each core take a third less time than one.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 3))}
cd "$ROOT"
[ -z "$whole" ] || rm -rf "${CARGO_TARGET_DIR:-target}"/e2e-{logs,secrets}
case $scope in
all)
    say "Running every test; Envoy: $LATCHKEY_ENVOY."
    cargo test --locked --workspace "$@"
    ;;
e2e)
    say "Running the end-to-end tests; Envoy: $LATCHKEY_ENVOY."
    cargo test --locked --workspace --test e2e "$@"
    ;;
*) die "test.sh knows all and e2e, and not \"$scope\"." ;;
esac
if [ -n "$whole" ]; then
    say "Searching what the tests left behind for secrets."
    cargo test --locked --workspace --test aftermath -- --nocapture
fi
