"""DRIFT's three levers (arXiv 2601.12401), one file each, and the methods they are compared with."""
