#!/usr/bin/env bash
# bash scripts/clipfit/xd_train.sh imagenet 1     (the method is the name of this folder)
source "$(dirname "${BASH_SOURCE[0]}")/../xd_train.sh"
