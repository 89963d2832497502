"""The corpus stage: examples from files or the hub, checked, normalised, with stable ids, in shards."""
