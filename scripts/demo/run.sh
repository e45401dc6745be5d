#!/usr/bin/env bash
# Zero-shot CLIP and CLIPFit on the embedded data set, base-to-new protocol, seed 1; then a table of all runs found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH" # whatever other environment is active
SEED=${SEED:-1}
export EXTRA="VERBOSE False TRAIN.PRINT_FREQ 5 ${EXTRA:-}"

for method in zsclip clipfit; do
    bash "scripts/$method/base2new_train.sh" demo "$SEED"
    bash "scripts/$method/base2new_test.sh" demo "$SEED"
done
"$(command -v python || command -v python3)" scripts/base2new_table.py demo --shots "${SHOTS:-16}"
