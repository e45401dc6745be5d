#!/usr/bin/env bash
# bash scripts/clipfit/base2new_test.sh dtd 1     (the method is the name of this folder)
source "$(dirname "${BASH_SOURCE[0]}")/../base2new_test.sh"
