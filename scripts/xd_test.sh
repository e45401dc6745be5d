#!/usr/bin/env bash
# Test the run of xd_train.sh on another data set. SOURCE: the data set it was trained on (imagenet; demo for demo_*).
# bash scripts/xd_test.sh CLIPFit dtd 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train cross_dataset --eval-only
