"""The Lightning room: module, data, processes, checkpoints, callbacks."""
