# Sourced by every script. The method is the name of the script's folder, the variables have defaults:
#   DATA   folder of the data sets (data)        SHOTS  labelled images per class (16)
#   SOURCE data set whose model a cross-dataset or domain-shift test loads (imagenet; demo for demo_*)
#   CONFIG a file of settings, such as configs/ablations/bias_a.yaml (--config-file)
#   EXTRA  more KEY VALUE pairs, e.g. EXTRA="OPTIM.MAX_EPOCH 50"
set -euo pipefail

METHOD=$(basename "$(cd -L "$(dirname "$0")" && pwd -L)")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || [ ! -x .venv/bin/python ]; then
    PYTHON=python
else
    PYTHON=.venv/bin/python
fi

usage() {
    local datasets='from launch.registered import data_sets; print(*(one.stem for one in data_sets()))'
    echo "usage: bash $0 <data set> <seed>     data sets: $("$PYTHON" -c "$datasets")" >&2
    exit 2
}
[ $# -eq 2 ] || usage
DATASET=$1
SEED=$2

# train <protocol> [flags ...]: one run of the method on the data set
train() {
    # shellcheck disable=SC2086 - EXTRA holds words
    "$PYTHON" train.py --trainer "$METHOD" --protocol "$@" --root "${DATA:-data}" --seed "$SEED" \
        --dataset "$DATASET" --shots "${SHOTS:-16}" \
        ${CONFIG:+--config-file "$CONFIG"} \
        ${SOURCE:+RUN.SOURCE "$SOURCE"} ${EXTRA:-}
}
