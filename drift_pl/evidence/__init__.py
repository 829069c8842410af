"""What runs show beside one another: evaluations as files, and what follows from several of them."""
