"""Other choices of the validation images, judged exactly as the judge would judge them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core.training.pictures import draw
from retort.spec import EvaluateSpec
from retort.spec.evaluated import EvaluatedNetwork
from retort.stages import measure
from retort.training.bootstrap import FEWEST, MOST, Judge, Matches, best_of, class_aps, resample
from retort.training.evaluate import Conditions, run_validation
from stored_results import role
from support.colour_finder import ColourFinder
from ultralytics.utils.metrics import ap_per_class

Stats = dict[str, list[np.ndarray]]


def made(seed: int, *, images: int, classes: int = 3, most: int = 30, rounded: bool = False) -> Stats:
    """What a network might find in some images; where *rounded* many scores are equal."""
    random, found = np.random.default_rng(seed), Stats(tp=[], conf=[], pred_cls=[], target_cls=[])
    for _ in range(images):
        objects, boxes = random.integers(6), random.integers(most + 1)
        quality = random.random(boxes)
        right = np.arange(10) / 12 < (quality * random.random(boxes))[:, None]
        right[np.cumsum(right, 0) > objects] = False
        scores = (quality + random.random(boxes) / 2).astype(np.float32)
        found["tp"].append(right)
        found["conf"].append(np.round(scores, 1) if rounded else scores)
        found["pred_cls"].append(random.integers(classes, size=boxes).astype(np.float32))
        found["target_cls"].append(random.integers(classes, size=objects).astype(np.float32))
    return found


def upstream(stats: Stats, chosen: np.ndarray) -> tuple[float, float]:
    """MAP50 and mAP50-95 by Ultralytics, of a data set that holds the chosen images, some of them several times."""
    told = {name: np.concatenate([values[image] for image in chosen]) for name, values in stats.items()}
    ap = ap_per_class(told["tp"], told["conf"], told["pred_cls"], told["target_cls"])[5]
    return float(ap[:, 0].mean()), float(ap.mean())


@pytest.mark.parametrize("seed", range(40))
def test_any_choice_of_images_has_the_map_that_upstream_gives_it(seed: int):
    random = np.random.default_rng(1000 + seed)
    number = int(random.integers(1, 30))
    stats = made(seed, images=number, classes=int(random.integers(1, 5)), most=int(random.integers(1, 40)))
    judge, everything = Judge(Matches.of(stats)), np.arange(number)
    for chosen in (everything, random.integers(number, size=number)):
        if sum(len(stats["target_cls"][image]) for image in chosen):
            assert judge.map(np.bincount(chosen, minlength=number)) == pytest.approx(upstream(stats, chosen), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_classes_of_a_choice_have_the_mean_that_upstream_gives_it(seed: int):
    random, stats = np.random.default_rng(seed), made(seed, images=6, classes=4)
    judge = Judge(Matches.of(stats))
    for chosen in (np.arange(6), random.integers(6, size=6)):
        found = judge.aps(np.bincount(chosen, minlength=6))
        assert len(found) == len({int(label) for labels in stats["target_cls"] for label in labels})
        assert np.nanmean(found) == pytest.approx(upstream(stats, chosen)[1], abs=1e-12)


def test_the_best_of_two_networks_counts_class_by_class_in_the_same_draws():
    stats = made(5, images=8, classes=2)
    images = list(zip(stats["tp"], stats["pred_cls"], strict=True))
    halves = [{**stats, "tp": [right & (labels == one)[:, None] for right, labels in images]} for one in (0, 1)]
    whole, first, second = (class_aps(Matches.of(one), seed=1) for one in (stats, *halves))

    assert whole.shape == (FEWEST, 2)
    assert np.nanmax(first[:, 1]) == np.nanmax(second[:, 0]) == 0.0
    assert best_of([first, second]) == pytest.approx(best_of([whole]), abs=1e-12), "each knows one class"
    assert (best_of([first]) < best_of([whole])).any()
    assert set(best_of([])) == {0.0}


def test_equal_scores_stand_in_the_order_that_the_judge_gives_them():
    stats = made(3, images=20, rounded=True)
    assert Judge(Matches.of(stats)).map(np.ones(20, np.int64)) == pytest.approx(upstream(stats, np.arange(20)))


def test_the_matches_that_an_evaluation_keeps_give_its_own_figure_to_the_digit(tmp_path: Path):
    conditions = Conditions(draw(tmp_path, num_train=1, num_val=12), imgsz=96, batch=4, device="cpu", loader_workers=0)

    judged = run_validation(ColourFinder(), conditions, tmp_path)

    assert judged.matches is not None
    again = Judge(judged.matches).map(np.ones(12, np.int64))
    assert again == (
        pytest.approx(judged.metrics.box.map50, abs=1e-12),
        pytest.approx(judged.metrics.box.map, abs=1e-12),
    )
    assert again[1] > 0.1


def test_an_image_choice_without_an_object_has_a_map_of_nothing():
    stats = made(5, images=2)
    stats["target_cls"][1] = np.zeros(0, np.float32)
    assert Judge(Matches.of(stats)).map(np.array([0, 2])) == (0.0, 0.0)


def test_the_interval_holds_the_difference_narrows_with_images_and_is_the_same_for_the_same_seed():
    few, many = ([Matches.of(made(seed, images=images, most=9)) for seed in (1, 2)] for images in (8, 80))
    wide, narrow = (resample(*pair, level=0.95, seed=4) for pair in (few, many))  # two networks that are equally good
    assert wide == resample(*few, level=0.95, seed=4)
    assert wide.low < 0 < wide.high
    assert wide.num_images == 8
    assert wide.num_resamples == MOST
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_a_network_against_itself_differs_by_nothing_over_any_images():
    found = Matches.of(made(1, images=4, most=4))
    same = resample(found, found, level=0.95, seed=0)
    assert (same.low, same.high) == (0.0, 0.0)


@pytest.mark.parametrize(("images", "kind"), [(1, "none"), (3, "none"), (4, "gain")])
def test_a_difference_over_very_few_images_proves_nothing(images: int, kind: str):
    def found(*, right: bool) -> Matches:
        one = np.float32([0.9])
        stats = {"tp": [np.full((1, 10), right)], "conf": [one], "pred_cls": [0 * one], "target_cls": [0 * one]}
        return Matches.of({name: values * images for name, values in stats.items()})

    networks = [
        EvaluatedNetwork.model_validate({**role(score), "weights": name, "title": name, "imgsz": 64})
        for name, score in (("first", 0.0), ("other", 0.995))
    ]
    spec = EvaluateSpec.model_validate({"task": "evaluate", "data": {"path": "d"}, "networks": ["a.pt", "b.pt"]})

    (difference,) = measure._differences(spec, networks, {"first": found(right=False), "other": found(right=True)})

    assert difference.kind == kind
    assert ("fewer than 4 images prove nothing" in difference.sentence) == (kind == "none")
