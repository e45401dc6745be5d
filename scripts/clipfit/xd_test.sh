#!/usr/bin/env bash
# bash scripts/clipfit/xd_test.sh dtd 1     (the method is the name of this folder)
source "$(dirname "${BASH_SOURCE[0]}")/../xd_test.sh"
