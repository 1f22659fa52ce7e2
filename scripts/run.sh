#!/usr/bin/env bash
# The demo: the service on SQLite, a gateway with the filter, a user with a token. Ctrl-C or SIGTERM ends what it started.
# All state is under .run/ (STATE_DIR). Ports can be chosen: GATEWAY_PORT, MANAGEMENT_PORT, EDGE_PORT, METRICS_PORT,
# ENVOY_ADMIN_PORT, ENVOY_METRICS_PORT. SKIP_BUILD=1 takes what is in dist/ as it is. TOKEN_PREFIX=null has the gateway look up
# tokens of any shape, for moving in from another system.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

GATEWAY_PORT=${GATEWAY_PORT:-10000}
MANAGEMENT_PORT=${MANAGEMENT_PORT:-8100}
EDGE_PORT=${EDGE_PORT:-8101}
METRICS_PORT=${METRICS_PORT:-8102}
ENVOY_ADMIN_PORT=${ENVOY_ADMIN_PORT:-9901}
ENVOY_METRICS_PORT=${ENVOY_METRICS_PORT:-9902}

# Whatever else the caller has set for a service of theirs, the demo has its own.
for variable in "${!LATCHKEY_@}"; do
    [ "$variable" = LATCHKEY_ENVOY ] || unset "$variable"
done

# part name → process id of what is running
declare -A parts=()

# Says so, and ends, if one of the ports cannot be listened on.
check_ports() {
    python3 - "GATEWAY_PORT=$GATEWAY_PORT" "MANAGEMENT_PORT=$MANAGEMENT_PORT" "EDGE_PORT=$EDGE_PORT" \
        "METRICS_PORT=$METRICS_PORT" "ENVOY_ADMIN_PORT=$ENVOY_ADMIN_PORT" "ENVOY_METRICS_PORT=$ENVOY_METRICS_PORT" <<'PYTHON'
import socket, sys
for name, port in (argument.split("=") for argument in sys.argv[1:]):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except (OSError, OverflowError, ValueError) as error:
            sys.exit(f"error: Port {port} of 127.0.0.1 cannot be listened on ({error}). "
                     f"End what uses it, or choose another: make run {name}=<port>")
PYTHON
}

# The reference configuration with this machine's addresses and paths.
write_envoy_config() {
    sed -e 's|address: 0\.0\.0\.0|address: 127.0.0.1|' \
        -e 's|address: latchkey, |address: 127.0.0.1, |' \
        -e "s|/etc/envoy/latchkey.wasm|$DIST/latchkey.wasm|" \
        -e "s|port_value: 10000|port_value: $GATEWAY_PORT|" \
        -e "s|port_value: 8100|port_value: $MANAGEMENT_PORT|" \
        -e "s|port_value: 8101|port_value: $EDGE_PORT|" \
        -e "s|port_value: 8102|port_value: $METRICS_PORT|" \
        -e "s|port_value: 9901|port_value: $ENVOY_ADMIN_PORT|" \
        -e "s|port_value: 9902|port_value: $ENVOY_METRICS_PORT|" \
        -e "s|# token_prefix: lk |token_prefix: ${TOKEN_PREFIX:-lk} |" \
        "$ROOT/envoy/envoy.yaml" >"$STATE_DIR/envoy.yaml"
    grep -q " token_prefix: ${TOKEN_PREFIX:-lk} " "$STATE_DIR/envoy.yaml" ||
        die "envoy.yaml has no line \`# token_prefix: lk\` to set TOKEN_PREFIX in."
}

# start NAME COMMAND…: in a process group of its own, so that Ctrl-C reaches this script alone and it ends things in order.
start() {
    local name=$1
    shift
    set -m
    "$@" >"$STATE_DIR/$name.log" 2>&1 </dev/null &
    parts[$name]=$!
    set +m
}

# Ends a part and waits for it: SIGTERM, then, after what the service takes to drain at most, SIGKILL.
stop() {
    local pid=${parts[$1]:-} tenths=0
    [ -n "$pid" ] || return 0
    unset "parts[$1]"
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ $((tenths += 1)) -le 120 ]; do sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

stop_all() {
    stop envoy
    stop service
}

# Fails with the end of a part's log if it has ended.
check_alive() {
    local name
    for name in "${!parts[@]}"; do
        kill -0 "${parts[$name]}" 2>/dev/null && continue
        printf 'error: %s has ended. The end of its log, %s/%s.log:\n' "$name" "$STATE_DIR" "$name" >&2
        tail -n 15 "$STATE_DIR/$name.log" | sed 's/^/    /' >&2
        exit 1
    done
}

# ready NAME URL: waits until a part answers 200.
ready() {
    local tries=0
    until "$SCRIPTS/demo.py" ready "$2"; do
        check_alive
        [ $((tries += 1)) -le 150 ] || die "$1 did not become ready within 30 s; its log is $STATE_DIR/$1.log."
        sleep 0.2
    done
}

"$SCRIPTS/setup.sh" rust python envoy
[ -n "${SKIP_BUILD:-}" ] || "$SCRIPTS/build.sh"
envoy=$("$SCRIPTS/envoy.sh")

mkdir -p "$STATE_DIR"
if have flock; then
    exec {running}>"$STATE_DIR/run.lock"
    flock -n "$running" || die "\`make run\` is running here already; end that one first."
fi
check_ports
umask 077
trap stop_all EXIT
# Being told to end is no failure.
trap 'exit 0' INT TERM HUP

[ -s "$STATE_DIR/edge-secret" ] || "$SCRIPTS/demo.py" secret "$STATE_DIR/edge-secret"
LATCHKEY_EDGE_SECRET=$(cat "$STATE_DIR/edge-secret")
write_envoy_config

say "Starting the service on $STATE_DIR/latchkey.db."
start service "$DIST/latchkey" serve --database-url "sqlite://$STATE_DIR/latchkey.db" --edge-secret-file "$STATE_DIR/edge-secret" \
    --trusted-proxies 127.0.0.1 --listen "127.0.0.1:$MANAGEMENT_PORT" --edge-listen "127.0.0.1:$EDGE_PORT" --metrics-listen "127.0.0.1:$METRICS_PORT"
# Not `/readyz`: a new database waits for its administrator, whom `prepare` makes.
ready service "http://127.0.0.1:$METRICS_PORT/livez"

say "Starting the gateway, Envoy $ENVOY_VERSION."
LATCHKEY_EDGE_SECRET=$LATCHKEY_EDGE_SECRET start envoy "$envoy" -c "$STATE_DIR/envoy.yaml" --disable-hot-restart --log-level warning \
    --file-flush-interval-msec 500
ready envoy "http://127.0.0.1:$ENVOY_ADMIN_PORT/ready"

"$SCRIPTS/demo.py" prepare --state-dir "$STATE_DIR" --program "$DIST/latchkey" \
    --gateway "http://127.0.0.1:$GATEWAY_PORT" --management "http://127.0.0.1:$MANAGEMENT_PORT"

wait -n "${parts[@]}" || true
check_alive
