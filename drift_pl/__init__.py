"""drift_pl: reward fine-tuning of diffusion and flow models that keeps their diversity (DRIFT, arXiv 2601.12401)."""

__version__ = "0.2.0"
