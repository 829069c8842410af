"""Judges and encoders: frozen networks that turn images in [0, 1] into numbers or embeddings."""

from drift_pl.scoring.aesthetic import Aesthetic
from drift_pl.scoring.clip_score import ClipScore
from drift_pl.scoring.compressibility import JpegCompressibility, JpegIncompressibility
from drift_pl.scoring.dreamsim import DreamSim
from drift_pl.scoring.encoders import ClipEncoder, LpipsEncoder, PooledEncoder
from drift_pl.scoring.hps import HpsV2
from drift_pl.scoring.http import ChatJudge, HttpJudge
from drift_pl.scoring.image_reward import ImageReward
from drift_pl.scoring.ocr import Ocr
from drift_pl.scoring.pickscore import PickScore

REWARDS = {
    "pickscore": PickScore,
    "hps": HpsV2,
    "imagereward": ImageReward,
    "clip_score": ClipScore,
    "aesthetic": Aesthetic,
    "ocr": Ocr,
    "jpeg_compressibility": JpegCompressibility,
    "jpeg_incompressibility": JpegIncompressibility,
    "http_judge": HttpJudge,
    "chat_judge": ChatJudge,
}

# "dino" and "pooled" load the same way: a transformers folder whose pooled output is the embedding.
ENCODERS = {
    "dino": PooledEncoder,
    "pooled": PooledEncoder,
    "clip": ClipEncoder,
    "dreamsim": DreamSim,
    "lpips": LpipsEncoder,
}
