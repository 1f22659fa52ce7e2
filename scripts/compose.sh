#!/usr/bin/env bash
# `docker compose` on envoy/compose.yaml, or docker-compose where that is what there is: compose.sh [--profile NAME…] up --build
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Docker would make a folder of a file that is missing, and say something else.
for made in latchkey latchkey.wasm; do
    [ -f "$DIST/$made" ] || die "dist/$made is missing. Run \`make build\` first, or \`make up\`, which does."
done
"$SCRIPTS/setup.sh" compose
if docker compose version >/dev/null 2>&1; then
    exec docker compose -f "$ROOT/envoy/compose.yaml" "$@"
fi
# It looks for .env where it is called.
cd "$ROOT/envoy"
exec docker-compose -f compose.yaml "$@"
