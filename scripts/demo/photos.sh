#!/usr/bin/env bash
# Own pictures from the folder to predictions: drawn, examined, trained on with the embedded backbone, tested.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH" # whatever other environment is active
FOLDER=${FOLDER:-data/my_photos} RUN=${RUN:-output/my_photos}

[ -d "$FOLDER" ] || python scripts/demo/photos.py "$FOLDER"
python -m datasets.doctor --images "$FOLDER" || true # a broken picture is among them
python train.py --trainer CLIPFit --images "$FOLDER" --output-dir "$RUN" --backbone demo THREADS 1 DATALOADER.NUM_WORKERS 0 VERBOSE True ${EXTRA:-}
python -m clipfit predict "$RUN/fit" "$FOLDER/wavy_green_tree" --csv "$RUN/predicted.csv" || true
head -4 "$RUN/predicted.csv"
