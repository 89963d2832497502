"""kill -9 at random moments over the CPU stages: the store ends as if nothing had happened.

    python bench/chaos.py [--kills 200] [--seed 0] [--keep FOLDER]

A small world (48 examples, a made-up teacher, the demo's student untuned) is made once undisturbed. Then the
same command is started again and again in another store and killed after a random time, until it has been
killed so often and one run comes through. Compared: the names of all units and artifacts, the bytes of their
files (times apart), what lies in the store after `trims clean`, and how many units were begun twice (at most
one a kill).

One JSON line; exit code 1 if a claim does not hold. Training has fault tests of its own (tests/faults).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = ("corpus", "scores", "aligned", "buckets", "sweep", "grades")
CHUNK: Final = 4


class Teacher:
    """A teacher without a model: the difficulty of a token is a hash of it and its place."""

    def __init__(self, config: Any) -> None:
        del config

    def start(self, max_tokens: int, beat: Any) -> Any:
        """Nothing to load."""
        from trims_core.teacher.protocol import TeacherInfo

        del max_tokens, beat
        return TeacherInfo("chaos")

    def score(self, requests: Sequence[Any], beat: Any) -> Iterable[Any]:
        """Some milliseconds a row, so that kills fall inside shards."""
        from trims_core.teacher.protocol import Scored

        for request in requests:
            time.sleep(0.002)
            beat("row")
            nll = [
                ((token * 2654435761 + place) % 997) / 250 for place, token in enumerate(request.target_ids)
            ]
            yield Scored(request.id, nll)

    def close(self) -> None:
        """Nothing to free."""


def main() -> int:
    """0 if every claim holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="make the stores here and leave them")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    _warm_up()
    with _folder(options.keep) as folder:
        result = chaos(folder, options.kills, random.Random(options.seed))
    print(json.dumps({"bench": "chaos", "kills": options.kills, "seed": options.seed, **result}))
    return 0 if result["holds"] else 1


def chaos(folder: Path, n_kills: int, rng: random.Random) -> dict[str, Any]:
    """The undisturbed run, the disturbed ones, and what differs."""
    calm, wild, log = folder / "calm", folder / "wild", folder / "begun.log"
    started = time.perf_counter()
    assert _run(calm, folder / "calm.log", None) == 0
    seconds = time.perf_counter() - started
    killed = twice = 0
    while True:
        limit = rng.uniform(0.0, seconds) if killed < n_kills else None
        code = _run(wild, log, limit)
        if code == -signal.SIGKILL:
            killed += 1
        elif code == 0 and killed >= n_kills:
            break
        elif code == 0:  # came through before it was hit: the next one starts with nothing
            twice += _begun_twice(log)
            shutil.rmtree(wild)
            log.unlink()
        else:
            raise SystemExit(f"an undisturbed stage failed with code {code}; see {log}")
    differing = _differing(calm, wild)
    twice += _begun_twice(log)
    left = _left_after_clean(calm, wild)
    holds = not differing and not left and twice <= n_kills
    found = {"undisturbed_s": round(seconds, 2), "begun_twice": twice, "differing": differing, "left": left}
    return {"holds": holds, "units": len(_contents(calm)), **found}


def _run(store: Path, log: Path, limit_s: float | None) -> int:
    """All nodes in a fork of this process, killed after a time; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        os._exit(_make_all(store, log))
    if limit_s is not None:
        time.sleep(limit_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _make_all(root: Path, log: Path) -> int:
    from trims_core.graph import build_graph
    from trims_core.settings import parse_config
    from trims_core.stage import load_spec, run_node
    from trims_core.store import Artifact, Store

    config = parse_config({**_WORLD, "store": str(root)})
    store, done = Store(root), dict[str, Artifact]()
    specs = {stage: _noting(load_spec(stage), log) for stage in STAGES}
    for node in build_graph(config):
        if node.stage in STAGES and all(parent in done for parent in node.parents.values()):
            parents = {role: done[parent] for role, parent in node.parents.items()}
            done[node.id] = run_node(store, config, node, parents, specs=specs).artifact
    return 0


_WORLD: Final[dict[str, Any]] = {
    "name": "chaos",
    "corpus": {"path": "data/demo/train.jsonl", "limit": 48, "rows_per_shard": 12},
    "scores": {"teacher": "chaos:Teacher", "model": "data/demo/teacher"},
    "buckets": {"k": 4},
    "student": {"model": "data/demo/student", "device": "cpu"},
    "sweep": {
        "tasks": {"demo": {"benchmark": "demo", "path": "data/demo/test.jsonl", "limit": 8}},
        "thresholds": [0.9, 0.5],
        "gen_length": 16,
        "block_length": 16,
        "batch_size": 2,
    },
}


def _noting(spec: Any, log: Path) -> Any:
    """The stage, which also writes down each unit that it begins."""

    @contextmanager
    def maker(work: Any, facts: Any, waiting: Any, done: Any) -> Iterator[Any]:
        with spec.maker(work, facts, waiting, done) as make:

            def noted(unit: Any, attempt: Any) -> Any:
                with log.open("a") as file:
                    file.write(f"{spec.name}/{attempt.final.name}\n")
                return make(unit, attempt)

            yield noted

    return dataclasses.replace(spec, maker=maker)


def _warm_up() -> None:
    """Imports once, so that kills fall into work; no torch operation runs before the forks."""
    logging.disable(logging.WARNING)
    import trims_core.decoding.runner
    import trims_core.sweep.stage
    from trims_core.stage import load_spec

    for stage in STAGES:
        load_spec(stage)
    trims_core.sweep.stage.CHUNK = CHUNK  # type: ignore[misc]
    import peft  # noqa: F401
    import transformers  # noqa: F401

    assert trims_core.decoding.runner


def _contents(root: Path) -> dict[str, dict[str, str]]:
    """Unit → file → sha256, times apart; and the artifacts' content digests."""
    from trims_core.store import Store
    from trims_core.store.artifact import read_unit

    found = {
        path.parent.relative_to(root).as_posix(): {
            entry.name: entry.sha256 for entry in read_unit(path.parent).files if not entry.aside
        }
        for path in sorted((root / "units").glob("*/*/unit.json"))
    }
    for artifact in Store(root).artifacts():
        found[f"{artifact.manifest.stage}/{artifact.fingerprint}"] = {"content": artifact.content_digest}
    return found


def _differing(calm: Path, wild: Path) -> list[str]:
    """Names that are not in both stores with equal bytes."""
    one, other = _contents(calm), _contents(wild)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _begun_twice(log: Path) -> int:
    return sum(n - 1 for n in Counter(log.read_text().splitlines()).values()) if log.exists() else 0


def _left_after_clean(calm: Path, wild: Path) -> list[str]:
    """Files of the disturbed store that the undisturbed one does not have, after `trims clean`."""
    from trims_core.store import Store

    listings = []
    for root in (calm, wild):
        Store(root).clean(older_than_s=0.0)
        listings.append({p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()})
    return sorted(name for name in listings[1] - listings[0])


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
