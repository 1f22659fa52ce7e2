#!/usr/bin/env bash
# The service on large databases beside small ones; the tables go to benches/SCALE.md. SCALE_POSTGRES and SCALE_SQLITE say how many
# tokens the large ones have (10,000,000 and 1,000,000, which take some 10 GB of the folder for temporary files).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$SCRIPTS/build.sh"
"$SCRIPTS/setup.sh" postgres
cd "$ROOT"
cargo bench --locked -p latchkey --bench scale
