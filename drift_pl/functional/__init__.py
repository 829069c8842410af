"""Pure functions on tensors: no Lightning, no config, no device choice, no global randomness."""
