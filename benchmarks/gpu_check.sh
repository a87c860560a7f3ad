#!/usr/bin/env bash
# Run the GPU check where there is no .venv, with any Python that has torch and pytest.
#   WHEELS=folder   install what else it lacks from these wheels, into a folder that goes again
#   OUT=folder      where the results go (runs/gpu-check)
#   BUDGET=480      seconds for all of it
#   DEVICE=cpu SIZE=tiny   play it through without a GPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH=$site
fi
"$PYTHON" benchmarks/gpu_check.py --device "${DEVICE:-cuda}" --size "${SIZE:-full}" --out "${OUT:-runs/gpu-check}" \
  --budget $((${BUDGET:-480} - SECONDS))
