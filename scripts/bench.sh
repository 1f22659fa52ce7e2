#!/usr/bin/env bash
# The benchmark: what a decision costs at Envoy, beside its peers in one run. BENCH_ROUNDS and BENCH_SECONDS (of each peer in each
# round) say how long it takes. The tables go to benches/RESULTS.md. Nothing else should run on the machine meanwhile.
# Two choices only print: BENCH_ONLY=cached|miss|garbage, and BENCH_FILTERS=label=path,… for other builds of the filter as peers.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$SCRIPTS/build.sh"
"$SCRIPTS/setup.sh" python envoy wrk
cd "$ROOT"
# As a process, whose CPU time can be read.
LATCHKEY_ENVOY=process cargo bench --locked -p latchkey --bench peers
