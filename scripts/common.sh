# Sourced by every script. bash scripts/<script> <method> <data set> <seed> reaches any method of trainers/;
# a shipped method has a folder, scripts/<method>/<script> <data set> <seed>. The variables have defaults:
#   DATA   folder of the data sets (data)        SHOTS  labelled images per class (16)
#   SOURCE data set whose model a cross-dataset or domain-shift test loads (imagenet; demo for demo_*)
#   CONFIG a file of settings, such as configs/ablations/bias_a.yaml (--config-file)
#   IMAGES own pictures instead of a data set (--images); then no data set is named: <script> <method> <seed>
#   EXTRA  more KEY VALUE pairs, e.g. EXTRA="OPTIM.MAX_EPOCH 50"
set -euo pipefail

FOLDER=$(cd -L "$(dirname "$0")" && pwd -L)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || [ ! -x .venv/bin/python ]; then
    PYTHON=$(command -v python || command -v python3 || echo python3)
else
    PYTHON=.venv/bin/python
fi

if [ "$FOLDER" -ef scripts ]; then
    WORDS="<method> "
else
    WORDS=
    set -- "$(basename "$FOLDER")" "$@"
fi
if [ -n "${IMAGES:-}" ]; then
    WHAT= COUNT=2
else
    WHAT='<data set> ' COUNT=3
fi
usage() {
    echo "usage: bash $0 $WORDS$WHAT<seed>" >&2
    [ -z "$WORDS" ] || echo "methods: $("$PYTHON" -m launch.registered)" >&2
    local datasets='from launch.registered import data_sets; print(*(one.stem for one in data_sets()))'
    echo "data sets: $("$PYTHON" -c "$datasets")" >&2
    exit 2
}
[ $# -eq "$COUNT" ] || usage
METHOD=$1
SEED=${!#}
if [ -n "${IMAGES:-}" ]; then
    ON=(--images "$IMAGES")
else
    ON=(--dataset "$2")
fi

# train <protocol> [flags ...]: one run of the method on the data set
train() {
    # shellcheck disable=SC2086 - EXTRA holds words
    "$PYTHON" train.py --trainer "$METHOD" --protocol "$@" --root "${DATA:-data}" --seed "$SEED" \
        "${ON[@]}" --shots "${SHOTS:-16}" \
        ${CONFIG:+--config-file "$CONFIG"} \
        ${SOURCE:+RUN.SOURCE "$SOURCE"} ${EXTRA:-}
}
