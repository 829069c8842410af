"""Rewards and encoders: frozen networks that turn images in [0, 1] into numbers or embeddings."""
