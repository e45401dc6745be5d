#!/usr/bin/env bash
# bash scripts/clipfit/dg_test.sh imagenetv2 1     (the method is the name of this folder)
source "$(dirname "${BASH_SOURCE[0]}")/../dg_test.sh"
