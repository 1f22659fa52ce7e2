#!/usr/bin/env bash
# The benchmark: what a decision costs at Envoy and at the service, beside peers in one run, in about 20 minutes. The tables go to
# benches/RESULTS.md. Nothing else should run on the machine meanwhile. BENCH_ROUNDS and BENCH_SECONDS (of each peer in each round)
# say how long it takes. Two choices only print what they measure: BENCH_ONLY=cached,miss,garbage,revocation,storm,memory,flood,
# verify,feeds picks some of these, and BENCH_FILTERS=label=path,… puts other builds of the filter beside the first three.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$SCRIPTS/build.sh"
"$SCRIPTS/setup.sh" python envoy postgres wrk
cd "$ROOT"
# As a process, whose CPU time can be read.
LATCHKEY_ENVOY=process cargo bench --locked -p latchkey --bench peers
