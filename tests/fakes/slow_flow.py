"""The pipeline's flow over the fake stages, each node in a process of its own: what a test deploys.

Prefect loads this file by its path, in a process that has no tests around it.
"""

from __future__ import annotations

import pytest
from fakes import flow_stages

from flows.pipeline import trims
from trims_core import runner

__all__ = ["trims"]
flow_stages.install(pytest.MonkeyPatch())
runner.MODULE[:] = ["fakes.node_process"]
