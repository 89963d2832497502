"""`python -m fakes.node_process` is `python -m trims_core.node_process` with the fake stages.

SLOW_S: how long a unit takes; SLOW_TRAIN_S and so on: one of this stage. SAVE_S: how long it takes to save
if interrupted. BEGUN: a folder for one file a unit begun, `<node>@<unit>.<pid>`, and one a unit ended
or saved; so a test sees what overlapped. FAIL: a node whose process ends without a
word.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fakes.flow_stages import SPECS

from trims_core.errors import InterruptedRunError
from trims_core.node_process import main
from trims_core.stage import Make, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord

logger = logging.getLogger("trims_core.fakes")


def _observed(spec: StageSpec) -> StageSpec:
    @contextmanager
    def maker(
        work: Work, facts: object, waiting: Sequence[Unit], done: Sequence[UnitRecord]
    ) -> Iterator[Make]:
        with spec.maker(work, facts, waiting, done) as make:

            def observed(unit: Unit, attempt: Attempt) -> Made:
                if os.environ.get("FAIL") == work.node_id:
                    os._exit(3)
                node = work.node_id.replace("/", "-")
                mark = Path(os.environ["BEGUN"], f"{node}@{unit.name}.{os.getpid()}")
                slow_s = os.environ.get(f"SLOW_{node.partition('-')[0].upper()}_S")
                try:
                    mark.write_text(str(time.time()))
                    sys.stdout.write(f"makes {unit.name}\n")
                    sys.stdout.flush()
                    logger.info("makes %s", unit.name)
                    time.sleep(float(slow_s or os.environ.get("SLOW_S", "0")))
                except InterruptedRunError:
                    time.sleep(float(os.environ.get("SAVE_S", "0")))
                    mark.with_suffix(mark.suffix + ".saved").write_text(str(time.time()))
                    raise
                made = make(unit, attempt)
                mark.with_suffix(mark.suffix + ".end").write_text(str(time.time()))
                return made

            yield observed

    return replace(spec, maker=maker)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:], {name: _observed(spec) for name, spec in SPECS.items()}))
