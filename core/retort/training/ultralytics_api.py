"""Import the parts of Ultralytics in use, after its environment is set."""

from __future__ import annotations

from retort.training import environment

assert environment.is_prepared(), "call retort.training.environment.prepare first"

import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics import __version__ as version  # noqa: E402
from ultralytics.cfg import get_cfg  # noqa: E402
from ultralytics.data.augment import Albumentations, LetterBox  # noqa: E402
from ultralytics.data.build import ContiguousDistributedSampler, InfiniteDataLoader  # noqa: E402
from ultralytics.data.dataset import YOLODataset  # noqa: E402
from ultralytics.data.utils import check_det_dataset, get_split_fraction  # noqa: E402
from ultralytics.engine import validator  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator, val  # noqa: E402
from ultralytics.nn.autobackend import AutoBackend  # noqa: E402
from ultralytics.nn.modules import Conv, Detect, DWConv, RTDETRDecoder, v10Detect  # noqa: E402
from ultralytics.nn.tasks import (  # noqa: E402
    DetectionModel,
    RTDETRDetectionModel,
    _SafeLoad,
    guess_model_scale,
    parse_model,
    yaml_model_load,
)
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, RANK, SETTINGS, loss, nms, ops, torch_utils  # noqa: E402
from ultralytics.utils.export.engine import best_onnx_opset, onnx2engine, torch2onnx  # noqa: E402
from ultralytics.utils.loss import BboxLoss, E2ELoss, v8DetectionLoss  # noqa: E402
from ultralytics.utils.metrics import ConfusionMatrix, box_iou, compute_ap  # noqa: E402
from ultralytics.utils.tal import TaskAlignedAssigner, dist2bbox, make_anchors  # noqa: E402
from ultralytics.utils.torch_utils import (  # noqa: E402
    ModelEMA,
    copy_attr,
    fuse_conv_and_bn,
    get_flops,
    init_seeds,
    intersect_dicts,
    select_device,
)

# Where torch is too old, Ultralytics' safe loader silently becomes an unsafe one.
assert _SafeLoad.SUPPORTED, "this torch cannot load checkpoints safely"

TRACKERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""Names of upstream's integrations among its settings."""
VALIDATORS = validator, val
"""The modules of its validators, each of which knows the rank of this process."""

# Upstream calls whatever trackers are installed by itself; ours are on the other side of the journal.
SETTINGS.update(dict.fromkeys(TRACKERS, False))
# Upstream would write into the folder of its installation, which the next job reads.
SETTINGS.update({f"{kind}_dir": str(environment.upstream_folder() / kind) for kind in ("weights", "datasets", "runs")})
# Ultralytics leaves one core idle whenever it selects the CPU: half of a machine with two.
torch_utils.NUM_THREADS = environment.num_cores()
torch.set_num_threads(environment.num_cores())

__all__ = [
    "DEFAULT_CFG",
    "DEFAULT_CFG_DICT",
    "RANK",
    "VALIDATORS",
    "YOLO",
    "Albumentations",
    "AutoBackend",
    "BboxLoss",
    "ConfusionMatrix",
    "ContiguousDistributedSampler",
    "Conv",
    "DWConv",
    "Detect",
    "DetectionModel",
    "DetectionTrainer",
    "DetectionValidator",
    "E2ELoss",
    "InfiniteDataLoader",
    "LetterBox",
    "ModelEMA",
    "RTDETRDecoder",
    "RTDETRDetectionModel",
    "TaskAlignedAssigner",
    "YOLODataset",
    "best_onnx_opset",
    "box_iou",
    "check_det_dataset",
    "compute_ap",
    "copy_attr",
    "dist2bbox",
    "fuse_conv_and_bn",
    "get_cfg",
    "get_flops",
    "get_split_fraction",
    "guess_model_scale",
    "init_seeds",
    "intersect_dicts",
    "loss",
    "make_anchors",
    "nms",
    "onnx2engine",
    "ops",
    "parse_model",
    "select_device",
    "torch2onnx",
    "torch_utils",
    "v8DetectionLoss",
    "v10Detect",
    "version",
    "yaml_model_load",
]
