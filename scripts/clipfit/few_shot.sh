#!/usr/bin/env bash
# SHOTS=4 bash scripts/clipfit/few_shot.sh dtd 1     (the method is the name of this folder)
source "$(dirname "${BASH_SOURCE[0]}")/../few_shot.sh"
