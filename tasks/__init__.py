"""How a stage runs under Prefect: retries, progress, artifacts. Knows nothing of the flows."""
