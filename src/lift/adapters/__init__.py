"""A model of ours as other projects want it."""
