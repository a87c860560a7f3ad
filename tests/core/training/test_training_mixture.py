"""Labelled and pseudo-labelled images share the batches as wanted, by seed and epoch alone."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from retort.constants import PSEUDO_LABELLED
from retort.training.config import MixtureConfig
from retort.training.data.loader import TrainingSet, training_loader, training_set
from retort.training.data.sampler import EpochSampler, Mixture, Sample, SampleOrder
from retort.training.ultralytics_api import check_det_dataset
from ultralytics.cfg import get_cfg

LABELLED, PSEUDO = np.arange(0, 40, 4), np.array([one for one in range(40) if one % 4])


def order(length: int = 40, batch: int = 8, seed: int = 0, **wanted: float) -> SampleOrder:
    return SampleOrder(seed, length, batch, Mixture(LABELLED, PSEUDO, **wanted))  # type: ignore[arg-type]


def images(found: SampleOrder, epoch: int, attempt: int = 0) -> list[int]:
    return [found.index(Sample(epoch, attempt, place)) for place in range(found.length)]


def labelled(found: SampleOrder, epoch: int) -> list[int]:
    """How many labelled images each whole batch of an epoch has."""
    known, seen = set(LABELLED.tolist()), images(found, epoch)
    return [sum(one in known for one in seen[at : at + found.batch]) for at in range(0, len(seen), found.batch)]


def test_few_images_fill_a_long_epoch_by_passes_of_their_own_order():
    alone = SampleOrder(0, 95, 8, Mixture(np.arange(10), np.empty(0, np.int64)))
    seen = images(alone, 0)
    for at in range(0, 90, 10):
        assert sorted(seen[at : at + 10]) == list(range(10)), "each image once before any comes again"
    assert seen[:10] != seen[10:20]
    assert images(alone, 1) != seen


def test_an_image_that_comes_again_in_an_epoch_is_augmented_differently():
    alone = SampleOrder(0, 100, 8, Mixture(np.arange(10), np.empty(0, np.int64)))
    seeds = {alone.seeds(sample) for sample in EpochSampler(alone)}
    assert len(seeds) == 100


def test_without_repetition_a_sample_has_the_seeds_that_it_has_without_a_mixture():
    plain, mixed = SampleOrder(3, 40, 8), order(seed=3)
    sample = Sample(2, 0, 5)
    at = images(plain, 2).index(mixed.index(sample))
    assert mixed.seeds(sample) == plain.seeds(Sample(2, 0, at))


def test_burn_in_is_on_labelled_images_and_the_ramp_grows_to_the_share():
    found = order(share=0.5, burn_in=2, ramp=3)
    shares = [labelled(found, epoch) for epoch in range(7)]
    assert [set(one) for one in shares] == [{8}, {8}, {7}, {6}, {5}, {4}, {4}]


def test_a_batch_has_as_many_labelled_images_as_the_floor_asks_and_never_fewer_than_there_are():
    assert set(labelled(order(share=0.5), 0)) == {4}
    assert set(labelled(order(share=0.1), 0)) == {2}, "a quarter of all images are labelled"
    assert set(labelled(order(share=1.0), 0)) == {8}


def test_all_pseudo_labelled_images_have_their_turn():
    found = order(share=0.5)
    counted = Counter(one for epoch in range(30) for one in images(found, epoch))
    turns = [counted[int(one)] for one in PSEUDO]
    assert min(turns) > 0
    assert sum(turns) == 30 * 20
    assert {counted[int(one)] for one in LABELLED} == {60}


def test_an_order_is_a_function_of_seed_epoch_and_attempt():
    found = order(share=0.5)
    assert images(found, 3) == images(order(share=0.5), 3), "resumed in another process"
    others = [images(found, 4), images(found, 3, attempt=1), images(order(share=0.5, seed=1), 3)]
    assert all(one != images(found, 3) for one in others)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_labelled_images_of_a_step(world_size: int):
    found, known = order(share=0.5), set(LABELLED.tolist())
    for rank in range(world_size):
        step = [found.index(sample) in known for sample in EpochSampler(found, rank=rank, world_size=world_size)]
        assert sum(step[: 8 // world_size]) == 4 // world_size


def test_mosaics_are_of_what_the_batches_hold():
    burning, long = order(share=0.5, burn_in=1), order(length=400, share=0.5, burn_in=1)
    for found in (burning, long):
        assert set(found.pool(Sample(0, 0, 5))) <= set(LABELLED.tolist())
        pool = found.pool(Sample(1, 0, 5))
        assert sum(one % 4 == 0 for one in pool) == len(pool) // 2


@pytest.fixture
def folder(data_yaml: Path, tmp_path: Path) -> Path:
    """A data set of which all but the first four training images are pseudo-labelled."""
    laid = Path(shutil.copytree(data_yaml.parent, tmp_path / "data"))
    names = sorted(path.stem for path in (laid / "images/train").iterdir())
    (laid / PSEUDO_LABELLED).write_text("\n".join(names[4:]))
    described = (laid / "data.yaml").read_text().replace(str(data_yaml.parent), str(laid))
    (laid / "data.yaml").write_text(described)
    return laid


def made(folder: Path, mixture: MixtureConfig | None, samples: int | None = None) -> TrainingSet:
    data = check_det_dataset(str(folder / "data.yaml"))
    args = get_cfg(overrides={"imgsz": 64, "mosaic": 0.0})
    return training_set(
        args, data["train"], 4, data, stride=32, seed=0, max_cache_bytes=1 << 30, mixture=mixture, samples=samples
    )


def test_the_loader_burns_in_on_what_the_list_leaves_and_two_loaders_give_the_same(folder: Path):
    listed = set((folder / PSEUDO_LABELLED).read_text().split("\n"))
    wanted = MixtureConfig(share=0.5, burn_in=1)
    loaders = [training_loader(made(folder, wanted), 4, workers=0) for _ in range(2)]
    for epoch, most in ((0, 0), (1, 2)):
        for first, second in zip(*loaders, strict=True):
            counted = sum(Path(name).stem in listed for name in first["im_file"])
            assert counted == most, f"in epoch {epoch}"
            assert first["im_file"] == second["im_file"]
            assert first["img"].equal(second["img"])


def test_an_epoch_of_given_length_repeats_images_and_has_as_many_batches(folder: Path):
    plain = training_loader(made(folder, None), 4, workers=0)
    longer = training_loader(made(folder, None, samples=3 * plain.dataset.ni), 4, workers=0)
    assert len(longer) == 3 * len(plain)
    counted = Counter(name for batch in longer for name in batch["im_file"])
    assert set(counted.values()) == {3}
