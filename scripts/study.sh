#!/usr/bin/env bash
# usage: scripts/study.sh CONFIG [PROCESSES [a.b=c …]]
# Trains and sweeps every model of a config (of all arms where it has a section ablate), PROCESSES single-threaded ones
# at a time (default: one per core), the first seed of all arms before the second. What is finished is kept: the same
# command goes on, also after kill -9. `trims run CONFIG` or `trims ablate CONFIG` find all of it in the store.
# Settings after PROCESSES hold for all of them, e.g. on a GPU: … 18 student.device=cuda sweep.batch_size=256
set -euo pipefail
cd "$(dirname "$0")/.."
config=$1 processes=${2:-$(nproc --all)}
shift $(($# < 2 ? $# : 2))
CORES=$(nproc --all)
export CORES OMP_NUM_THREADS=1

model() {
    local name=$1 settings=$2 log="data/work/${1//\//-}.log" node
    shift 2
    for node in "$@"; do
        taskset -c $((SLOT % CORES)) .venv/bin/python -m trims_core.stage "${node%%/*}" --config "$settings" \
            --node "$node" > "$log" 2>&1 || { echo "$node of $name failed, see $log"; return 1; }
    done
    echo "$(date +%H:%M) $name"
}
export -f model

mkdir -p data/work
.venv/bin/python - "$config" "$@" << 'PYTHON' > data/work/study.txt
import json
import sys
from pathlib import Path

from trims_core.ablations import ablation_of
from trims_core.graph import build_graph, steps_of
from trims_core.settings import load_config

base = load_config(sys.argv[1], sys.argv[2:])
steps = steps_of(base, build_graph(base)) if base.ablate is None else ablation_of(sys.argv[1], sys.argv[2:]).steps
files = {}
for step in steps:  # the settings of every arm in full
    if id(step.config) not in files:
        files[id(step.config)] = Path("data/work", f"{base.name}-{len(files)}.json")
        files[id(step.config)].write_text(json.dumps(step.config.model_dump(mode="json"), indent=1))
sweeps = sorted((one for one in steps if one.node.stage == "sweep"), key=lambda one: one.node.params["seed"] or 0)
chains = {}
for sweep in sweeps:  # a model's own steps: its trainings, in rounds also what they are made from
    made = [one for one in steps if one.config is sweep.config and one.node.stage in ("rollouts", "grades", "train")]
    of_model = [one for one in made if one.node.params and "model" not in one.node.params]
    of_model = [one for one in of_model if all(one.node.params[n] == sweep.node.params[n] for n in ("variant", "seed"))]
    chains[sweep.id.replace("sweep/", "")] = [*of_model, sweep]
chained = {one.id for chain in chains.values() for one in chain}
shared = {parent for chain in chains.values() for one in chain for parent in one.parents.values()} - chained
for step in reversed(steps):
    shared |= set(step.parents.values()) if step.id in shared else set()
lines = [f"data {files[id(step.config)]} {step.node.id}" for step in steps if step.id in shared]
for name, chain in chains.items():
    lines.append(" ".join(["model", name, str(files[id(chain[-1].config)]), *(one.node.id for one in chain)]))
print("\n".join(lines))
PYTHON
sed -n 's/^data //p' data/work/study.txt | while read -r settings node; do
    .venv/bin/python -m trims_core.stage "${node%%/*}" --config "$settings" --node "$node" < /dev/null
done
sed -n 's/^model //p' data/work/study.txt |
    xargs -P "$processes" -L1 --process-slot-var=SLOT bash -c 'model "$@"' model
