"""What an iteration's images do to the policy, one file per update."""
