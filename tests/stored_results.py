"""Results as they are stored, whole but small, and what each may have or lack; without any import of ours."""

from __future__ import annotations

from typing import Any

SPEED = {
    "latency_ms": {"p50": 8.25, "p90": 9.5}, "throughput": {"1": 120.0, "8": None}, "peak_memory_bytes": None,
    "runtime": "PyTorch", "device": "cpu",
}  # fmt: skip
BY_SIZE = {"small": {"ap": None, "number": 0}, "medium": {"ap": 0.2, "number": 3}, "large": {"ap": 0.4, "number": 2}}


def accuracy(score: float | None) -> dict[str, Any]:
    """Scores of a network; None where it knows none of the classes."""
    if score is None:
        return {"map50": None, "map": None, "per_class": {}, "by_size": {}}
    per_class = {"red": {"ap50": score, "ap": score}, "blue": {"ap50": score, "ap": score}}
    return {"map50": score, "map": score, "per_class": per_class, "by_size": BY_SIZE}


def role(score: float | None, **changes: Any) -> dict[str, Any]:
    """A network in its role."""
    weighs = {"model": "yolov8n", "num_parameters": 3_007_598, "gflops": 8.7, "size_bytes": 6_200_000}
    return {**weighs, "imgsz": 64, "epochs": 2, **accuracy(score), **SPEED, **changes}


INTERVAL = {"low": -0.01, "high": 0.11, "level": 0.95, "over": "images", "number": 500, "seed_noise": 0.011}
VERDICT: dict[str, Any] = {
    "kind": "none", "sentence": "No difference is shown, says the one judge.", "difference": 0.05,
    "interval": INTERVAL, "gap_closed": None, "caveats": ["One seed is no proof."],
}  # fmt: skip
"""What may be said of it."""


def stored(
    teacher: float | None = 0.6, student: float = 0.45, control: float | None = 0.4, **changes: Any
) -> dict[str, Any]:
    """A distillation's result as it is stored; ``unmeasured`` takes a teacher away whose measurement failed."""
    unmeasured = changes.pop("unmeasured", False)
    roles = {"teacher": role(teacher, epochs=None), "student": role(student)}
    gain = closed = None
    if control is not None:
        roles["control"] = role(control)
        gain, closed = dict.fromkeys(("map50", "map"), student - control), {"map50": None, "map": None}
    if unmeasured:
        del roles["teacher"]
        closed = None
    return {
        "roles": roles, "verdict": VERDICT, "ensemble": [], "training": {"epochs": 2, "planned_epochs": 2, "batch": 8},
        "control_dropped": None, "arms": [], "gain": gain, "gap_closed": closed, "seeds": None,
        "dataset": {"names": ["red", "blue"], "num_train": 400, "num_val": 500, "num_shared": 0, "digest": "d" * 64},
        "data_quality": None, "unlabelled": None, "pseudo_labels": None, "spec_digest": "5" * 64, "device": "cpu",
        "versions": {"retort": "1.0", "python": "3.11"}, "exports": [], "extras": [], "duration_s": 61.5, **changes,
    }  # fmt: skip


def worth(basis: str = "control", gained: float | None = None, **changes: Any) -> dict[str, Any]:
    """What a teacher can be worth; checked, where it is known what was *gained*."""
    most = 0.2 if basis != "none" else 0.6
    one = {"teacher": 0.6, "plain": None if basis == "none" else 0.4, "most": most}
    checked = {} if gained is None else {"gained": gained, "excess": gained - most, "held": True}
    return {
        "most": most, "basis": basis, "interval": {
            "low": most - 0.05, "high": most + 0.05, "level": 0.95, "num_images": 500, "num_resamples": 200,
        },
        "per_class": {name: {**one, **({} if gained is None else {"gained": gained})} for name in ("red", "blue")},
        "sentence": f"At most {most:+.1f}, by {basis}.", **checked, **changes,
    }  # fmt: skip


_NAMES = {"path": "student.onnx", "format": "onnx", "precision": "fp32"}
_TOLD = {"reason": None, "hint": None, "files": ["student.onnx"], "calibration": None}
_STEPS = {"kept": [], "steps": [{"num_kept": 0, "map": 0.44, "map_drop": 0.01}], "sensitivity": []}
_COMPARED = {"max_relative_error": 1e-6, "num_images": 4, "num_boxes": 9, "num_unequal": 0}
_MEASURED = {
    **_NAMES, **_TOLD, **accuracy(0.44), **SPEED, **_STEPS,
    "map_drop": 0.01, "max_map_drop": 0.02, "latency_ratio": 0.5,
}  # fmt: skip
_CALIBRATED = {
    "precision": "int8", "path": "student-int8.onnx",
    "calibration": {"num_images": 50, "wanted": 50, "per_class": {"red": 30, "blue": 20}, "warning": "50 are few"},
    "kept": ["model.0"], "sensitivity": [{"layer": "model.0", "error": 0.5}], "max_map_drop": None,
}  # fmt: skip
EXPORTS: dict[str, dict[str, Any]] = {
    "passed": {**_MEASURED, **_COMPARED, "status": "passed", "size_bytes": 12_000_000},
    "over_budget": {**_MEASURED, **_CALIBRATED, "status": "over_budget", "size_bytes": 3_000_000},
    "no_score": {**_MEASURED, "status": "no_score", "path": "student-4.onnx", "map": 0.0, "size_bytes": 12_000_000},
    "differs": {
        **_MEASURED, **_COMPARED, "status": "differs", "num_unequal": 3, "files": [], "reason": "it differs",
        "hint": "try another opset", "path": "student-2.onnx",
    },
    "needs": {**_NAMES, **_TOLD, "status": "needs", "path": "student.engine", "reason": "no TensorRT"},
    "failed": {**_NAMES, **_TOLD, "status": "failed", "path": "student-3.onnx", "files": [], "reason": "few images"},
    "timed_out": {
        **_NAMES, **_TOLD, "status": "timed_out", "path": "student-5.onnx", "files": [], "code": "timeout",
        "reason": "it took longer than 1800 s",
    },
    "from before": {"format": "onnx", "path": "old.onnx", "size_bytes": 9, "max_relative_error": 1e-6, "num_images": 4},
}  # fmt: skip
"""An export of every status that there is."""

EXTRAS: dict[str, dict[str, Any]] = {
    status: {
        "name": f"extra {status}", "status": status, "code": None if status == "done" else "internal",
        "reason": None if status == "done" else f"why it is {status}", "hint": None, "duration_s": 0.5,
    }
    for status in ("done", "failed", "skipped", "timed_out")
}  # fmt: skip
"""What may become of a part that the student does not depend on."""

SHARE = {"right": 3, "total": 4, "value": 0.75, "low": 0.3, "high": 0.95}
NOTHING = {"right": 0, "total": 0, "value": None, "low": None, "high": None}
_BOTH = {"precision": SHARE, "recall": NOTHING}
_AGREEMENT = {"num_images": 2, **_BOTH, "per_class": {"red": _BOTH}}
_COUNTS = {"num_boxes": 9, "num_missing": 1, "num_doubtful": 1, "num_duplicate": 0}
REVIEW = {
    "mode": "sample", "num_images": 3, "num_unseen": 1, "num_accepted": 1, "num_rejected": 1, "num_edited": 1,
    "precision": SHARE, "recall": NOTHING, "per_class": {"red": SHARE},
}  # fmt: skip
LABELS: dict[str, Any] = {
    "num_images": 9, "num_used": 4,
    "left_out": {"validation": 1, "training": 1, "duplicate": 1, "empty": 1, "unreadable": 1},
    "num_boxes": 5, "num_doubtful": 1, "confidence": {"red": 0.5, "blue": 0.5}, "ignore_from": 0.1,
    "per_class": {
        name: {"num_images": 2, "num_boxes": 2, "num_doubtful": 1, "histogram": [0] * 19 + [2]}
        for name in ("red", "blue")
    },
    "histogram": [0] * 19 + [4], "num_trained": 4, "digest": "e" * 64,
    "agreement": None, "existing": None, "review": None,
}  # fmt: skip
_SPREAD = {"mean": 0.45, "deviation": 0.01}
_OVER = {
    "num_seeds": 2, "student": _SPREAD, "control": _SPREAD,
    "difference": {**_SPREAD, "low": -0.1, "high": 0.2, "level": 0.95, "p_value": 0.4},
}  # fmt: skip
_SCORES = {"map50": 0.5, "map": 0.4}
QUALITY: dict[str, Any] = {
    "splits": {"train": {"num_images": 4, "num_backgrounds": 1, "boxes": {"red": 3, "blue": 2}}},
    "findings": [],
}
FINDING = {"severity": "error", "code": "few", "message": "few", "hint": "more", "number": 1, "places": ["a.png"]}

PARTS: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "no control": {"control": None},
    "a dropped control": {"control": None, "control_dropped": "the job was finished early"},
    "a teacher without scores": {"teacher": None},
    "a weak teacher": {"teacher": 0.1},
    "seeds": {
        "seeds": {
            "runs": [{"seed": seed, "student": _SCORES, "control": _SCORES} for seed in (0, 1)],
            "statistics": {"map50": _OVER, "map": _OVER},
        }
    },
    "seeds without control": {
        "control": None,
        "seeds": {"runs": [{"seed": 0, "student": _SCORES}], "statistics": {"map50": None, "map": None}},
    },
    "an ensemble": {"ensemble": [{"model": "yolo11s", "weight": 0.5, "imgsz": 64, "map50": None, "map": None}]},
    "unlabelled images": {"unlabelled": {"num_images": 30, "num_shared": 0, "digest": "f" * 64, "ratio": 1.0}},
    "labels by the teacher": {"pseudo_labels": LABELS},
    "reviewed labels": {"pseudo_labels": {**LABELS, "review": REVIEW}},
    "labels compared": {
        "pseudo_labels": {
            **LABELS, "agreement": _AGREEMENT,
            "existing": {
                **_COUNTS, "num_images": 4, "num_suspect": 1, "per_class": {"red": _COUNTS}, "agreement": _AGREEMENT,
            },
        }
    },
    "further arms": {
        "arms": [
            {
                "arm": name, "figures": role(0.41), "path": f"arm-{name}.pt", "training_s": 9.5 if name else None,
                "student_training_s": seconds, "difference": 0.04, "interval": interval, "kind": kind,
                "sentence": f"What it shows. Student less {name}: +4.0 points.",
            }
            for name, kind, interval, seconds in (
                ("placebo", "gain", INTERVAL, 12.0), ("equal_time", "none", None, None),
            )
        ]
    },
    "a pilot": {
        "pilot": {
            "decision": "stopped", "sentence": "The pilot has stopped it.", "epochs": 3, "num_train": 80,
            "num_held_apart": 20, "arms": [
                {"arm": "plain", "map50": 0.3, "map": 0.2, "training_s": 9.5},
                {"arm": "recipe", "map50": 0.3, "map": 0.2, "training_s": 9.5, "difference": 0.0, "interval": INTERVAL},
                {"arm": "lowered", "map50": 0.3, "map": 0.2, "difference": 0.0, "training_s": None},
            ],
        }
    },
    "a pilot that was skipped": {
        "pilot": {
            "decision": "skipped", "sentence": "There was no pilot: 2 epochs.", "epochs": 0, "num_train": 0,
            "num_held_apart": 0, "arms": [],
        }
    },
    "classes as one": {
        "dataset": {
            "names": ["item"], "merged": ["red", "blue"], "num_train": 4, "num_val": 5, "num_shared": 0,
            "digest": "d" * 64,
        },
        "training": {
            "epochs": 2, "planned_epochs": 2, "batch": 8,
            "batch_found": {
                "batch": 8, "reason": "it fits", "peak_bytes": {"2": 10, "8": 40}, "free_bytes": 100,
            },
        },
    },
    "sound data": {"data_quality": QUALITY},
    "doubtful data": {"data_quality": {**QUALITY, "findings": [FINDING]}},
    "a teacher that could not be measured": {"unmeasured": True, "extras": [EXTRAS["failed"]]},
    "extras of every status": {"extras": list(EXTRAS.values())},
    "training not told": {"training": None},
    "a result from before verdicts": {"verdict": None, "gap_closed": {"map50": 0.25, "map": 0.25}},
    "a verdict over seeds": {
        "gap_closed": {"map50": None, "map": 0.25},
        "verdict": {
            **VERDICT, "kind": "gain", "gap_closed": 0.25,
            "interval": {**INTERVAL, "low": 0.01, "over": "seeds", "number": 3, "seed_noise": None},
        },
    },
    "a teacher's worth, as foretold": {
        "worth": worth(gained=0.05, foretold=worth("none"), foretold_held=True)
    },
    "a teacher's worth that chance may be above": {"worth": worth(gained=0.25, held=None, interval=None)},
    "a teacher's worth that was surpassed": {"worth": worth(gained=0.45, held=False)},
    "a verdict in parts": {
        "verdict": {
            **VERDICT,
            "parts": [
                {
                    "part": part, "network": network, "less": less, "difference": 0.05, "interval": interval,
                    "kind": kind, "sentence": f"What the {part} brought.",
                }
                for part, network, less, kind, interval in (
                    ("pseudo_labels", "control", "labelled_only", "gain", INTERVAL),
                    ("terms", "student", "control", "none", None),
                    ("whole", "student", "labelled_only", "loss", INTERVAL),
                )
            ],
        },
    },
    "a verdict without interval": {"verdict": {**VERDICT, "kind": "unknown", "difference": None, "interval": None}},
}  # fmt: skip
"""What a result may have, or lack, beside its exports."""

STUDENT = {
    "model": "yolov8n", "weights": None, "map50": None, "map": None, "per_class": {}, "num_parameters": 3_000_000,
    "gflops": 8.7,
}  # fmt: skip


def candidate(weights: str = "yolo11s.pt", verdict: str = "recommended", **changes: Any) -> dict[str, Any]:
    """A candidate that was measured."""
    return {
        "weights": weights, "title": weights.removesuffix(".pt"), "model": "yolo11s", "num_parameters": 9_400_000,
        "gflops": 21.5, "size_bytes": 19_000_000, **accuracy(0.4), **SPEED, "attention": 0.0,
        "classes": {"known": 2, "others": 0, "wanted": 2},
        "step": {"alone_s": 1.0, "taught_s": 1.2, "num_steps": 3, "ratio": 1.2},
        "capacity": {"parameters": 3.1, "gflops": 2.5}, "ap_over_student": {"red": 0.1}, "weaker_classes": [],
        "worth": worth("none"),
        "verdict": verdict, "reasons": ["It is better."], **changes,
    }  # fmt: skip


def advice(*candidates: dict[str, Any]) -> dict[str, Any]:
    """Advice as it is stored, which recommends the first candidate that may be."""
    best = next((one for one in candidates if one["verdict"] == "recommended"), None)
    return {
        "task": "advise", "student": STUDENT, "candidates": list(candidates),
        "recommended": best and {name: best[name] for name in ("weights", "title", "reasons")},
        "sentence": f"Take {best['title']}." if best else "None of them should teach this student.",
        "dataset": {"names": ["red", "blue"], "num_val": 12, "num_shared": 0, "digest": "d" * 64},
        "imgsz": 64, "batch": 4, "device": "cpu",
    }  # fmt: skip
