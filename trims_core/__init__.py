"""TRIMS: trajectory-ranked fine-tuning of masked diffusion language models, as pipeline stages.

Covered: what a stage does, usable from a notebook or a script. Not covered: how a stage runs under an
orchestrator (see `tasks/` and `flows/`). Importing this package pulls in no torch, vllm, transformers,
matplotlib or prefect.
"""

__version__ = "0.1.0"
