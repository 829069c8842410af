"""Prompts, rollouts and replays: an iteration's groups of images."""
