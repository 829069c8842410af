"""Shared foundations: data types, random generators, errors, the registry, files."""
