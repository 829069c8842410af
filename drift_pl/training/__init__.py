"""Training on Lightning: module, data, updates, processes, checkpoints, callbacks."""
