#!/usr/bin/env bash
# Test a model on shifted images of its classes. SOURCE: the data set it was trained on (imagenet; demo for demo_*).
# bash scripts/dg_test.sh CLIPFit imagenetv2 1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train domain_shift --eval-only
