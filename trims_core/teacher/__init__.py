"""The scores stage: an autoregressive teacher's difficulty of every completion token, in nats."""
