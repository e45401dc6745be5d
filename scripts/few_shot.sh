#!/usr/bin/env bash
# Train on SHOTS images of every class of a data set and test on all its classes.
# SHOTS=4 bash scripts/few_shot.sh CLIPFit dtd 1
# IMAGES=photos/ SHOTS=4 bash scripts/few_shot.sh CLIPFit 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train few_shot
