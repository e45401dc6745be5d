#!/usr/bin/env bash
# Train on SHOTS images of every class of a source data set, for tests on others.
# bash scripts/xd_train.sh CLIPFit imagenet 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train cross_dataset
