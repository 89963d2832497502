#!/usr/bin/env bash
# usage: scripts/study.sh CONFIG [PROCESSES]
# Trains and sweeps every model of a config, one single-threaded process per core (default: all cores), the first
# seed of all arms before the second. What is finished is kept: the same command goes on, also after kill -9.
set -euo pipefail
cd "$(dirname "$0")/.."
export CONFIG=$1 OMP_NUM_THREADS=1
processes=${2:-$(nproc)}

model() {
    local stage
    for stage in train sweep; do
        [ "$stage $1" = "train untuned" ] && continue
        taskset -c "$CORE" .venv/bin/python -m trims_core.stage "$stage" --config "$CONFIG" --node "$stage/$1" \
            > "data/work/$1.log" 2>&1 || { echo "$stage/$1 failed, see data/work/$1.log"; return 1; }
    done
    echo "$(date +%H:%M) $1"
}
export -f model

mkdir -p data/work
.venv/bin/trims run "$CONFIG" --until buckets
.venv/bin/python - "$CONFIG" << 'PYTHON' | xargs -P "$processes" -I{} --process-slot-var=CORE bash -c 'model {}'
import sys
from trims_core.graph import build_graph
from trims_core.settings import load_config

sweeps = [node.params for node in build_graph(load_config(sys.argv[1])) if node.stage == "sweep"]
for params in sorted(sweeps, key=lambda params: params["seed"] or 0):
    print(params["model"])
PYTHON
