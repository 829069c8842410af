"""Judges and encoders: frozen networks that turn images in [0, 1] into numbers or embeddings."""

from drift_pl.scoring.clip_score import ClipScore
from drift_pl.scoring.compressibility import JpegCompressibility, JpegIncompressibility
from drift_pl.scoring.encoders import ClipEncoder, LpipsEncoder, PooledEncoder
from drift_pl.scoring.preference import PickScore

REWARDS = {
    "pickscore": PickScore,
    "clip_score": ClipScore,
    "jpeg_compressibility": JpegCompressibility,
    "jpeg_incompressibility": JpegIncompressibility,
}

# "dino" and "pooled" load the same way: a transformers folder whose pooled output is the embedding.
ENCODERS = {"dino": PooledEncoder, "pooled": PooledEncoder, "clip": ClipEncoder, "lpips": LpipsEncoder}
