#!/usr/bin/env bash
# usage: scripts/study.sh CONFIG [PROCESSES [a.b=c …]]
# Trains and sweeps every model of a config, PROCESSES single-threaded ones at a time (default: one per core), the
# first seed of all arms before the second. What is finished is kept: the same command goes on, also after kill -9.
# Settings after PROCESSES hold for all of them, e.g. on a GPU: … 18 student.device=cuda sweep.batch_size=256
set -euo pipefail
cd "$(dirname "$0")/.."
config=$1 processes=${2:-$(nproc --all)}
shift $(($# < 2 ? $# : 2))
SETTINGS="--config $config" CORES=$(nproc --all)
for setting in "$@"; do SETTINGS+=" --set $setting"; done
export SETTINGS CORES OMP_NUM_THREADS=1

model() {
    local stage
    for stage in train sweep; do
        [ "$stage $1" = "train untuned" ] && continue
        # shellcheck disable=SC2086  # settings are words
        taskset -c $((SLOT % CORES)) .venv/bin/python -m trims_core.stage "$stage" $SETTINGS --node "$stage/$1" \
            > "data/work/$1.log" 2>&1 || { echo "$stage/$1 failed, see data/work/$1.log"; return 1; }
    done
    echo "$(date +%H:%M) $1"
}
export -f model

mkdir -p data/work
# shellcheck disable=SC2086
.venv/bin/python - "$config" "$@" << 'PYTHON' > data/work/study.txt
import sys
from trims_core.graph import build_graph
from trims_core.settings import load_config

graph = build_graph(load_config(sys.argv[1], sys.argv[2:]))
data = dict.fromkeys(parent for node in graph if node.stage == "train" for parent in node.parents.values())
sweeps = [node.params for node in graph if node.stage == "sweep"]
models = [params["model"] for params in sorted(sweeps, key=lambda params: params["seed"] or 0)]
print("\n".join([*(f"data {name}" for name in data), *(f"model {name}" for name in models)]))
PYTHON
for node in $(sed -n 's/^data //p' data/work/study.txt); do
    # shellcheck disable=SC2086
    .venv/bin/trims run ${SETTINGS#--config } --until "$node"
done
sed -n 's/^model //p' data/work/study.txt |
    xargs -P "$processes" -I{} --process-slot-var=SLOT bash -c 'model {}'
