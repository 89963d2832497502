"""What runs, in which order: the pipeline's flows, the `trims` command, and the processes behind them."""
