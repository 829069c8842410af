"""Exit statuses of the commands and of a run's processes; docs/runs.md says what each means."""

BUG, USER_ERROR = 1, 2
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143
"""128 and the number of the signal, as shells have it."""
