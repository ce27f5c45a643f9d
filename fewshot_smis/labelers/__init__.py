"""Labelers: from the features of a sampled picture to its label map, learnt from a few shots."""

from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.files import load_labeler, save_labeler
from fewshot_smis.labelers.fit import (
    chosen_method,
    feature_resolution,
    fit_labeler,
    label_samples,
)
from fewshot_smis.labelers.linear import HeadSettings, LinearLabeler
from fewshot_smis.labelers.sparse import SparseLabeler

__all__ = [
    "DenseLabeler",
    "HeadSettings",
    "Labeler",
    "LinearLabeler",
    "SparseLabeler",
    "chosen_method",
    "feature_resolution",
    "fit_labeler",
    "label_samples",
    "load_labeler",
    "save_labeler",
]
