"""The scores stage: what a teacher thinks of every completion token."""
