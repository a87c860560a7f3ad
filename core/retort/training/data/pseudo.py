"""Tell pseudo-labelled training images from labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retort.constants import PSEUDO_LABELLED
from retort.training.config import MixtureConfig
from retort.training.data.sampler import Mixture


def mixture_of(images: Sequence[str], wanted: MixtureConfig | None) -> Mixture:
    """Return how the image files of a training share its batches.

    The data folder lists its pseudo-labelled images in a file; without one, and where nothing is *wanted* of them, all
    images are taken for labelled ones.
    """
    listed = Path(images[0]).parents[2] / PSEUDO_LABELLED
    names = set(listed.read_text().split("\n")) if wanted is not None and listed.is_file() else set()
    is_pseudo = np.array([Path(image).stem in names for image in images])
    wanted = wanted or MixtureConfig()
    labelled, pseudo = np.flatnonzero(~is_pseudo), np.flatnonzero(is_pseudo)
    assert len(labelled), "a data set has labelled images"
    return Mixture(labelled, pseudo, share=wanted.share, burn_in=wanted.burn_in, ramp=wanted.ramp)
