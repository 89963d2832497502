"""The name of a machine: its GPUs and processors, from what the system's files say."""

from __future__ import annotations

import os
from pathlib import Path

from trims_core.machine import machine, processor

PROCESSORS = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t: a b\nmodel name\t: Some CPU @ 2 GHz\n"


def test_gpus_of_a_kind_are_counted_before_the_processors(tmp_path: Path) -> None:
    about = tmp_path / "cpuinfo"
    about.write_text(PROCESSORS)
    assert processor(about) == "CPU Some CPU @ 2 GHz"
    assert machine(about, tmp_path / "none") == f"{os.cpu_count()} × CPU Some CPU @ 2 GHz"
    for number, name in enumerate(("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "Tesla T4")):
        folder = tmp_path / "gpus" / f"0000:{number:02}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 1\nModel: \n")
    found = machine(about, tmp_path / "gpus")
    assert found == f"2 × NVIDIA H100 80GB HBM3, 1 × Tesla T4, {os.cpu_count()} × CPU Some CPU @ 2 GHz"


def test_a_system_that_tells_no_name_has_its_kind(tmp_path: Path) -> None:
    assert processor(tmp_path / "nothing").startswith("CPU ")
    assert len(processor(tmp_path / "nothing")) > len("CPU ")
