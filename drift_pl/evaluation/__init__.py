"""Held-out evaluation, its record and its pictures."""
