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
# Where all of them are there, a test that misses one fails; else it says what it skips.
if "$SCRIPTS/setup.sh" upstreams; then
    export LATCHKEY_TEST_UPSTREAMS=all
elif [ $? != 3 ]; then
    die "The servers that tests put behind gateways could not be installed."
else
    warn "SKIPPED: what tests of readings:: and gateways::paths:: would do with the servers that are missing."
fi
"$SCRIPTS/setup.sh" patroni || patroni=$?
if [ "${patroni:-0}" != 0 ]; then
    [ "$patroni" = 3 ] || die "Patroni, etcd and HAProxy could not be installed."
    warn "SKIPPED: patroni::, for which Patroni, etcd or HAProxy is missing."
fi
if "$SCRIPTS/setup.sh" faketime; then
    export LATCHKEY_TEST_FAKETIME=yes
elif [ $? != 3 ]; then
    die "libfaketime could not be installed."
else
    warn "SKIPPED: the tests of the service on clocks that are wrong (clocks:: of admin-service/tests/cli)."
fi
if [ "$LATCHKEY_ENVOY" = docker ]; then
    "$SCRIPTS/setup.sh" compose
    "$SCRIPTS/envoy-image.sh"
    "$SCRIPTS/postgres-image.sh"
else
    warn "SKIPPED, as Envoy runs as a process: the tests that only containers make honest (in_docker::)."
    case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac
    set -- "$@" --skip in_docker::
fi
# Most tests wait more than they compute.
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
