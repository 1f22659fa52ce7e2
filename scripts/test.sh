#!/usr/bin/env bash
# Every test: test.sh [all|e2e] [arguments of cargo test]. The end-to-end tests run what is in dist/, which is built first.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scope=${1:-all}
shift || true
# Of a whole run, what it leaves behind is searched at the end for the secrets that it made.
whole=$([ $# -gt 0 ] || echo yes)

LATCHKEY_ENVOY=$(launcher)
export LATCHKEY_ENVOY
"$SCRIPTS/build.sh"
"$SCRIPTS/setup.sh" python envoy nginx openapi-clients pgbouncer postgres prometheus readme shell
# optional PART TESTS: installs what not every machine can have, or says which tests are skipped without it.
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
if [ "$LATCHKEY_ENVOY" = docker ]; then
    "$SCRIPTS/setup.sh" compose
    "$SCRIPTS/envoy-image.sh"
    "$SCRIPTS/postgres-image.sh"
else
    warn "SKIPPED, as Envoy runs as a process: the tests that only containers make honest (in_docker::)."
    case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac
    set -- "$@" --skip in_docker::
fi
# Two for each core take a quarter less time than one.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
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
