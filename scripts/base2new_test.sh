#!/usr/bin/env bash
# Test the run of base2new_train.sh on the new classes (the other half).
# bash scripts/base2new_test.sh CLIPFit dtd 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train base2new --eval-only
