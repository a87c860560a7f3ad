"""Say how to run an export in C++ and with TensorRT."""

from __future__ import annotations

import json
from collections.abc import Sequence

from retort.report.usage import Snippet
from retort.spec.exported import AnyExport, MeasuredExport

_CPP = """#include <onnxruntime_cxx_api.h>
#include <iostream>
#include <vector>

int main() {{
  Ort::Env env;
  Ort::Session session(env, {file}, Ort::SessionOptions{{}});
  std::vector<int64_t> shape{{1, 3, {height}, {width}}};
  std::vector<float> pixels(3 * {height} * {width}, 114 / 255.f);  // RGB, 0 to 1, padded picture
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto input = Ort::Value::CreateTensor<float>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  Ort::AllocatorWithDefaultOptions allocator;
  auto in = session.GetInputNameAllocated(0, allocator), out = session.GetOutputNameAllocated(0, allocator);
  const char *ins[] = {{in.get()}}, *outs[] = {{out.get()}};
  auto output = session.Run(Ort::RunOptions{{}}, ins, &input, 1, outs, 1);
  for (int64_t side : output[0].GetTensorTypeAndShapeInfo().GetShape()) std::cout << side << ' ';
}}
"""
_TENSORRT = """trtexec --onnx={file} --saveEngine=student.engine{precision}
trtexec --loadEngine=student.engine  # how fast it is on this GPU
"""
_BOXES = {
    "raw": "The output is of shape (images, 4 + classes, n): centre, width, height and a score by class; NMS is yours.",
    "nms": "The output has one row for each final box: two corners, score, class.",
    "nms_free": "The output has one row for each final box: two corners, score, class.",
}


def more_lines(exports: Sequence[AnyExport], imgsz: int) -> Sequence[Snippet]:
    """Return lines that run the first ONNX file in C++ and with TensorRT."""
    found = [one for one in exports if isinstance(one, MeasuredExport) and one.files and one.format == "onnx"]
    if not found:
        return ()
    export = found[0]
    height, width = export.shape or (imgsz, imgsz)
    code = _CPP.format(file=json.dumps(export.path), height=height, width=width)
    plain = next((one for one in found if one.precision == "fp32"), export)
    return (
        Snippet(
            f"{export.path} in C++ (ONNX Runtime)",
            f"c++ -std=c++17 detect.cpp -lonnxruntime. {_BOXES[export.boxes or 'raw']}", code,
        ),
        Snippet(
            f"{plain.path} with TensorRT",
            "An engine runs on the kind of GPU, and with the TensorRT, that it was built with: build it there.",
            _TENSORRT.format(file=plain.path, precision=" --fp16" if plain.precision == "fp32" else ""),
        ),
    )  # fmt: skip
