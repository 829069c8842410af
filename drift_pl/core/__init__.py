"""The ground floor: what passes between stages, generators, errors, names, files."""
