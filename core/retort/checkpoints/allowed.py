"""Freeze the names that a checkpoint's pickle may use."""

from __future__ import annotations

from typing import NamedTuple


class Global(NamedTuple):
    """Name that a pickle refers to: a class or a function of a module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def _all(table: dict[str, str]) -> frozenset[Global]:
    return frozenset(Global(module, name) for module, names in table.items() for name in names.split())


_ULTRALYTICS = "ultralytics.nn.modules"
_LAYERS = {
    "block": (
        "A2C2f AAttn ABlock AConv ADown Attention Bottleneck BottleneckCSP C1 C2 C2PSA C2f C2fCIB C2fPSA C3 C3Ghost "
        "C3TR C3f C3k C3k2 C3x CBFuse CBLinear CIB DFL ELAN1 GhostBottleneck PSA PSABlock RepBottleneck RepC3 RepCSP "
        "RepNCSPELAN4 RepVGGDW ResNetBlock ResNetLayer SCDown SPP SPPELAN SPPF"
    ),
    "conv": (
        "CBAM ChannelAttention Concat Conv Conv2 ConvTranspose DWConv DWConvTranspose2d Focus GhostConv Index "
        "LightConv RepConv SpatialAttention"
    ),
    "head": "Detect v10Detect",
    "transformer": "LayerNorm2d MLP MLPBlock TransformerBlock TransformerLayer",
    "activation": "AGLU",
}
_TORCH_LAYERS = {
    "activation": (
        "CELU ELU GELU Hardsigmoid Hardswish Hardtanh LeakyReLU Mish MultiheadAttention PReLU ReLU ReLU6 SELU SiLU "
        "Sigmoid Softmax Softplus Tanh"
    ),
    "batchnorm": "BatchNorm1d BatchNorm2d SyncBatchNorm",
    "container": "ModuleList Sequential",
    "conv": "Conv1d Conv2d ConvTranspose2d",
    "dropout": "Dropout Dropout2d",
    "flatten": "Flatten",
    "linear": "Identity Linear NonDynamicallyQuantizableLinear",
    "normalization": "GroupNorm LayerNorm",
    "padding": "ZeroPad2d",
    "pixelshuffle": "PixelShuffle PixelUnshuffle",
    "pooling": "AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d MaxPool2d",
    "upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
}
DETECTOR = Global("ultralytics.nn.tasks", "DetectionModel")
LAYERS = _all({
    **{f"{_ULTRALYTICS}.{module}": names for module, names in _LAYERS.items()},
    **{f"torch.nn.modules.{module}": names for module, names in _TORCH_LAYERS.items()},
    DETECTOR.module: DETECTOR.name,
})  # fmt: skip
"""Classes that a network may be rebuilt from, where the pinned versions define them."""
_FLAT = {Global(_ULTRALYTICS, one.name): one for one in LAYERS if one.module.startswith(_ULTRALYTICS)}
RENAMED = {
    **_FLAT,  # before 8.0.85 all layers were in one module
    Global("ultralytics.nn.tasks", "YOLOv10DetectionModel"): DETECTOR,
    Global(f"{_ULTRALYTICS}.block", "Silence"): Global("torch.nn.modules.linear", "Identity"),
}
"""Names of earlier versions, with those of today."""
TRANSFORMER = Global("ultralytics.nn.tasks", "RTDETRDetectionModel")
"""A detector that can teach by its boxes, and be nothing else."""
DISTILLATION = Global("ultralytics.nn.distill_model", "DistillationModel")
"""What Ultralytics saves in the middle of a distillation of its own; the student is in it."""
HOOK = Global("ultralytics.nn.distill_model", "FeatureHook")
NAMESPACES = _all({
    "ultralytics.utils": "IterableSimpleNamespace",
    "ultralytics.yolo.utils": "IterableSimpleNamespace",
    "types": "SimpleNamespace",
})  # fmt: skip
"""Mappings whose items are attributes: a training's arguments."""
_OTHER_TASKS = (
    "ClassificationModel DepthModel OBBModel PoseModel RTDETRDetectionModel SegmentationModel "
    "SemanticSegmentationModel WorldModel YOLOEModel YOLOESegModel"
)
SET_ASIDE = _all({
    "ultralytics.nn.tasks": _OTHER_TASKS,
    f"{_ULTRALYTICS}.block": (
        "BNContrastiveHead C2fAttn ContrastiveHead HGBlock HGStem ImagePoolingAttn MaxSigmoidAttnBlock Proto Proto26 "
        "RealNVP Residual SAVPE SwiGLUFFN"
    ),
    f"{_ULTRALYTICS}.head": (
        "Classify Depth LRPCHead OBB OBB26 Pose Pose26 RTDETRDecoder Segment Segment26 SemanticSegment WorldDetect "
        "YOLOEDetect YOLOESegment YOLOESegment26"
    ),
    f"{_ULTRALYTICS}.transformer": (
        "AIFI DeformableTransformerDecoder DeformableTransformerDecoderLayer MSDeformAttn TransformerEncoderLayer"
    ),
    "ultralytics.utils.loss": (
        "BboxLoss DFLoss E2EDetectLoss E2ELoss v10DetectLoss v8DetectionLoss v8OBBLoss v8PoseLoss v8SegmentationLoss"
    ),
    "ultralytics.utils.tal": "RotatedTaskAlignedAssigner TaskAlignedAssigner",
    "ultralytics.models.utils.loss": "FocalLoss RTDETRDetectionLoss VarifocalLoss",
    "ultralytics.models.utils.ops": "HungarianMatcher",
    "torch.nn.modules.loss": "BCEWithLogitsLoss",
    "torch.nn.modules.sparse": "Embedding",
    HOOK.module: HOOK.name,
})  # fmt: skip
"""Classes that files hold beside a detector, or in its place: their objects are read, told apart, and dropped."""
OBJECTS = LAYERS | RENAMED.keys() | SET_ASIDE | NAMESPACES | {DISTILLATION}
"""Classes whose objects a pickle may hold, as records: made without arguments, filled with a mapping."""
BITS = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}  # fmt: skip
"""Storages of torch: the name of their numbers' type in safetensors, and its bytes."""
STORAGES = {Global("torch", name): found for name, found in BITS.items()}
DTYPES = _all(
    {"torch": "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool float double half long int"}
)
"""Types of numbers, as values."""
REBUILD_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = Global("torch._utils", "_rebuild_parameter")
ORDERED = Global("collections", "OrderedDict")
SIZE = Global("torch", "Size")
DEVICE = Global("torch", "device")
ENCODE = Global("_codecs", "encode")
NUMPY_DTYPE = Global("numpy", "dtype")
NUMPY_SCALARS = _all({"numpy.core.multiarray": "scalar", "numpy._core.multiarray": "scalar"})
SETS = _all({"__builtin__": "set", "builtins": "set"})
PATHS = _all({"pathlib": "PosixPath WindowsPath", "pathlib._local": "PosixPath WindowsPath"})
VALUES = (
    DTYPES | SETS | PATHS | NUMPY_SCALARS
    | {REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED, SIZE, DEVICE, ENCODE, NUMPY_DTYPE}
)  # fmt: skip
"""What stands for a value: the reader knows what each of them means, and has no need to call it."""
ALL = OBJECTS | STORAGES.keys() | VALUES
"""Every name that may appear; one beside them is the end of the reading."""


def renamed(found: Global) -> Global:
    """Return the name that today's versions have for *found*."""
    return RENAMED.get(found, found)
