#!/usr/bin/env bash
# A first job with curl: submit a spec, wait for its end, fetch the student. Needs a running service (make up).
#   examples/first_job.sh [URL] [FOLDER WITH A DATASET] [EPOCHS]
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
data=${2:-$(cd "$(dirname "$0")" && pwd)/data/digits}
epochs=${3:-8}
# A service on this machine keeps its key where only you may read it; another service's operator gives you one.
key=${RETORT_KEY:-$(cat "${RETORT_HOME:-$HOME/.local/share/retort}/operator.key")}
ask() { curl --silent --show-error --header @<(printf 'Authorization: Bearer %s' "$key") "$@"; }

# A key of your own makes it safe to send the request again: the same key gives the same job.
job=$(ask --fail-with-body "$url/v1/jobs" \
  --header 'Content-Type: application/json' --header "Idempotency-Key: first-job-$$-$(date +%s)" \
  --data @- <<JSON
{
  "name": "first-job",
  "data": {"path": "$data"},
  "teacher": {"train": {"model": "yolo11n", "weights": null, "epochs": $epochs}},
  "student": {"model": "yolov8n", "weights": null},
  "training": {"epochs": $epochs, "imgsz": 96, "batch": 8, "optimizer": "AdamW", "lr": 0.002, "close_mosaic": 0}
}
JSON
)
id=$(printf '%s' "$job" | grep -o 'job_[0-9a-f]\{32\}' | head -1)
echo "submitted $id"

# The stream ends when the job does.
ask --fail --no-buffer "$url/v1/jobs/$id/stream" | grep --line-buffered '^data:' || true

ask --fail "$url/v1/jobs/$id" | grep -q '"state":"succeeded"' || { echo "it failed" >&2; exit 1; }
ask --fail --remote-name "$url/v1/jobs/$id/artifacts/student.pt"
echo "wrote student.pt"
