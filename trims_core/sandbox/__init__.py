"""Runs generated Python programs against tests where they can touch nothing, and tells their verdicts."""

from trims_core.sandbox.limits import Limits
from trims_core.sandbox.program import Outcome, Program, Verdict
from trims_core.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Outcome", "Program", "Sandbox", "Verdict"]
