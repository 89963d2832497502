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
    local name=$1 node
    shift
    for node in "$@"; do
        # shellcheck disable=SC2086  # settings are words
        taskset -c $((SLOT % CORES)) .venv/bin/python -m trims_core.stage "${node%%/*}" $SETTINGS --node "$node" \
            > "data/work/$name.log" 2>&1 || { echo "$node failed, see data/work/$name.log"; return 1; }
    done
    echo "$(date +%H:%M) $name"
}
export -f model

mkdir -p data/work
# shellcheck disable=SC2086
.venv/bin/python - "$config" "$@" << 'PYTHON' > data/work/study.txt
import sys
from trims_core.graph import build_graph
from trims_core.settings import load_config

graph = build_graph(load_config(sys.argv[1], sys.argv[2:]))
sweeps = sorted((node for node in graph if node.stage == "sweep"), key=lambda node: node.params["seed"] or 0)
nodes = {}
for sweep in sweeps:  # a model's own nodes: its trainings, in rounds also what they are made from
    own = ["variant", "seed"]
    made = [n for n in graph if n.stage in ("rollouts", "grades", "train") and "model" not in n.params]
    of_model = [n for n in made if n.params and all(n.params[name] == sweep.params[name] for name in own)]
    nodes[sweep.params["model"]] = [*of_model, sweep]
ids = {node.id for found in nodes.values() for node in found}
data = dict.fromkeys(p for found in nodes.values() for node in found for p in node.parents.values() if p not in ids)
lines = [" ".join(["model", model, *(node.id for node in found)]) for model, found in nodes.items()]
print("\n".join([*(f"data {name}" for name in data), *lines]))
PYTHON
for node in $(sed -n 's/^data //p' data/work/study.txt); do
    # shellcheck disable=SC2086
    .venv/bin/trims run ${SETTINGS#--config } --until "$node"
done
sed -n 's/^model //p' data/work/study.txt |
    xargs -P "$processes" -L1 --process-slot-var=SLOT bash -c 'model "$@"' model
