#!/usr/bin/env bash
# Train on the base classes (the first half) of a data set and test on them.
# bash scripts/base2new_train.sh CLIPFit dtd 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train base2new
