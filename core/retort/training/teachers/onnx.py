"""Any detector in ONNX that gives boxes and scores, run by onnxruntime."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import pad

from retort.errors import ModelError
from retort.foreign import first_line
from retort.spec.adapter import TeacherAdapter
from retort.training.environment import num_cores
from retort.training.teachers import told_in
from retort.training.teachers.answers import FLOATS, GraphOutput, image_and_sizes, recognise
from retort.training.teachers.base import BoxNetwork, fitted, raw_output

if TYPE_CHECKING:
    from torch import Tensor

_FLOATING = {1, 10, 11, 16}
"""ONNX's numbers for float32, float16, float64 and bfloat16."""


def load(weights: Path) -> OnnxNetwork | None:
    """Open a prepared graph; None for any other file.

    Raises:
        ModelError: it cannot be run, or it is not certain what its outputs are.

    """
    told = None if weights.suffix != ".onnx" else told_in(weights)
    return None if told is None else OnnxNetwork(weights, *told)


class OnnxNetwork(BoxNetwork):
    """ONNX graph of a detector in onnxruntime.

    It runs on a GPU where its images are there and onnxruntime can, else on the CPU.
    """

    def __init__(self, weights: Path, names: dict[int, str], adapter: TeacherAdapter) -> None:
        super().__init__(names, f"an ONNX detector ({weights.name})")
        self._weights, self._adapter = weights, adapter
        self._sessions: dict[str, Any] = {}
        try:
            session = self._session(torch.device("cpu"))
        except Exception as error:  # its own kinds, of which it exports none
            raise ModelError(f"{weights.name} cannot be run by onnxruntime: {first_line(error)}") from error
        image, sizes = image_and_sizes(session.get_inputs(), weights.name)
        self._single = len(image.shape) == 3
        """Whether it takes one image without a batch, as torchvision's exports do."""
        self._batch, _, self._height, self._width = _sides([1, *image.shape] if self._single else image.shape)
        self.side = max(filter(None, (self._height, self._width)), default=None)
        self._dtype, self._names = FLOATS[image.type], (image.name, None if sizes is None else sizes.name)
        about = " ".join(session.get_modelmeta().custom_metadata_map.values())
        outputs = [GraphOutput(one.name, _sides(one.shape), "int" in one.type) for one in session.get_outputs()]
        try:
            self.answer = recognise(outputs, adapter, len(names), about)
        except ModelError as error:
            raise ModelError(f"{weights.name}: {error.message}", hint=error.hint) from error
        boxes = next(one for one in outputs if one.name == self.answer.boxes)
        self._most = 1 if self._single or len(boxes.shape) == 2 else self._batch
        """Images at a time; None takes any number."""

    @property
    def num_parameters(self) -> int:
        """Numbers of floating point that the graph keeps as tensors."""
        import onnx

        kept = onnx.load(self._weights, load_external_data=False).graph.initializer
        return sum(math.prod(one.dims) for one in kept if one.data_type in _FLOATING)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sessions behind, which a copy opens for itself."""
        return {**self.__dict__, "_sessions": {}}

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A), as ``BoxNetwork`` says."""
        shape = self._height or images.shape[-2], self._width or images.shape[-1]
        x, back = fitted(images.float(), shape, self._adapter)
        found = [self._some(part, shape) for part in torch.split(x, self._most or len(x))]
        most = max(raw.shape[1] for raw in found)
        rows = torch.cat([pad(raw, (0, 0, 0, most - raw.shape[1])) for raw in found]).to(images.device)  # N n 4+K
        return raw_output(back(rows[..., :4]), rows[..., 4:])

    def _some(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return corners and probabilities (N, n, 4 + K) of as many images as it takes."""
        lacking = (self._batch or len(x)) - len(x)
        given = torch.cat([x, x.new_zeros(lacking, *x.shape[1:])]) if lacking else x
        outputs = self._run(given.to(self._dtype).contiguous(), shape)
        corners, probabilities = self.answer.read(outputs, shape, len(self.names))
        return torch.cat([corners, probabilities.to(corners.dtype)], -1)[: len(x)]

    def _run(self, x: Tensor, shape: tuple[int, int]) -> dict[str, Tensor]:
        """Return the outputs by name, on the CPU; a GPU's images are read where they lie."""
        session, count = self._session(x.device), len(x)
        x = x[0] if self._single else x
        binding, (image, sizes) = session.io_binding(), self._names
        on_gpu = x.device.type == "cuda" and "CUDAExecutionProvider" in session.get_providers()
        if on_gpu:
            kind = np.float16 if x.dtype == torch.float16 else np.float32
            torch.cuda.current_stream(x.device).synchronize()
            binding.bind_input(image, "cuda", x.device.index or 0, kind, tuple(x.shape), x.data_ptr())
        else:
            binding.bind_cpu_input(image, x.cpu().numpy())
        if sizes is not None:
            binding.bind_cpu_input(sizes, np.array([[shape[1], shape[0]]] * count, np.int64))
        outputs = [one.name for one in session.get_outputs()]
        for name in outputs:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return dict(zip(outputs, map(torch.from_numpy, binding.copy_outputs_to_cpu()), strict=True))

    def _session(self, device: torch.device) -> Any:
        import onnxruntime

        if device.type not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level, options.intra_op_num_threads = 3, num_cores()
            gpu = [("CUDAExecutionProvider", {"device_id": device.index or 0})] if device.type == "cuda" else []
            known = [one for one in gpu if one[0] in onnxruntime.get_available_providers()]
            providers = [*known, "CPUExecutionProvider"]
            self._sessions[device.type] = onnxruntime.InferenceSession(str(self._weights), options, providers=providers)
        return self._sessions[device.type]


def _sides(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)
