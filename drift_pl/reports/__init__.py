"""What is shown of runs: comparisons, tables, figures, pages, model cards. No torch."""
