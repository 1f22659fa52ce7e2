#!/usr/bin/env bash
# The tests of what survives, at length: the service killed 1,000 times on SQLite and 200 times on PostgreSQL, PostgreSQL itself 50
# times, and 10 switch-overs and 5 kills of the leader under Patroni, all under load; in about an hour. Everything is compared with
# what was acknowledged, the audit log entry by entry. LATCHKEY_SOAK_SQLITE_KILLS, …_POSTGRES_KILLS, …_SERVER_KILLS, …_SWITCHOVERS and
# …_LEADER_KILLS say how often; arguments name tests to run instead of all four: soak.sh kills::
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LATCHKEY_ENVOY=$(launcher)
export LATCHKEY_ENVOY
export LATCHKEY_SOAK_SQLITE_KILLS=${LATCHKEY_SOAK_SQLITE_KILLS:-1000}
export LATCHKEY_SOAK_POSTGRES_KILLS=${LATCHKEY_SOAK_POSTGRES_KILLS:-200}
export LATCHKEY_SOAK_SERVER_KILLS=${LATCHKEY_SOAK_SERVER_KILLS:-50}
export LATCHKEY_SOAK_SWITCHOVERS=${LATCHKEY_SOAK_SWITCHOVERS:-10}
export LATCHKEY_SOAK_LEADER_KILLS=${LATCHKEY_SOAK_LEADER_KILLS:-5}

"$SCRIPTS/build.sh"
"$SCRIPTS/setup.sh" python envoy postgres
"$SCRIPTS/setup.sh" patroni || warn "SKIPPED: patroni::, for which Patroni, etcd or HAProxy is missing."
if [ "$LATCHKEY_ENVOY" = docker ]; then "$SCRIPTS/envoy-image.sh"; fi
cd "$ROOT"
[ $# -gt 0 ] || set -- kills:: patroni::
# One after the other, so that each has the machine to itself.
cargo test --locked --workspace --test e2e -- --nocapture --test-threads 1 "$@"
