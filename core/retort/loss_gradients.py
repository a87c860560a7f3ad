"""Compute distillation terms and their gradients in few passes over memory.

What autograd would keep for a backward pass, and read again there, is used while it is at hand: one gradient is kept.
Only the student's side has a gradient. Nothing here can be differentiated twice.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from retort.foreign import first_line, is_out_of_memory

_CHUNK = 1 << 20
"""Elements of a teacher's features that a CPU's caches hold while their moments are taken."""
_HALF = (torch.float16, torch.bfloat16)


def wide(x: Tensor) -> Tensor:
    """Return *x* in float32 at least; sums of squares leave half precision's range."""
    return x.float() if x.dtype.itemsize < 4 else x


def focal_sum(logits: Tensor, probabilities: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``sum w_c |p_t - p_s| BCE(p_s, p_t)`` with ``p_s = sigmoid(z)``.

    *logits* z and *probabilities* p_t are (N, A, K), *weights* (K,) or None for all alike.
    """
    return cast("Tensor", _FocalSum.apply(logits, probabilities, weights))


def divergence_sum(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 sum_i w_i mean_sides KL(d_t || d_s)`` of softmaxes over bins.

    *student* and *teacher* are logits (N, A, 4, R), *weights* are (N, A).
    """
    return cast("Tensor", _DivergenceSum.apply(student, teacher, weights, temperature))


def decorrelation(features: Tensor, teacher: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return half the mean squared error of standardised columns.

    That is one minus their correlation. The columns are those of *features* (M, C_s) times *weight* (C_t, C_s) and of
    *teacher* (M, C_t). *eps* is added to variances. With f the features, W the weight and t the teacher's: var(W f) =
    diag(W cov(f, f) W'), and cov(W f, t) = diag(W cov(f, t)). Two products of matrices take the place of a dozen passes
    over W f. They are computed in half precision where both sides come in one that holds what is multiplied.
    """
    return cast("Tensor", _Decorrelation.apply(features, teacher, weight, eps))


class _FocalSum(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, probabilities: Tensor, weights: Tensor | None) -> Tensor:
        ctx.dtype = logits.dtype
        z = wide(logits)
        p = z.sigmoid()
        entropy = softplus(z).addcmul_(z, probabilities, value=-1)
        slope = torch.ops.aten.sigmoid_backward(entropy, p) if ctx.needs_input_grad[0] else None
        gap = p.sub_(probabilities)
        if slope is not None:  # the gap's sign times (p (1 - p) entropy + gap^2)
            slope.addcmul_(gap, gap).mul_(gap.sign())
            ctx.save_for_backward(slope, weights)
        cells = gap.abs_().mul_(entropy)
        return cells.sum() if weights is None else (cells.sum((0, 1)) * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        slope, weights = ctx.saved_tensors
        return _times(slope, grad if weights is None else grad * weights, ctx.dtype), None, None


class _DivergenceSum(Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
        ctx.dtype = student.dtype
        # A head gives its anchors last. A softmax over another axis reads them so, where one over the last would copy.
        log_q, log_p = (_log_softmax(logits.movedim(1, -1), temperature) for logits in (student, teacher))
        p = log_p.exp()
        w = (weights * (temperature**2 / student.shape[2]))[:, None]  # N 1 A
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(log_q.exp().sub_(p), (w / temperature)[:, None])
        return (log_p.sub_(log_q).mul_(p).sum(2) * w).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        slope, w = ctx.saved_tensors
        return _times(slope, grad * w, ctx.dtype).movedim(-1, 1), None, None, None


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return the logarithm of the softmax over the third axis, in float32 at least."""
    if temperature != 1:
        return (wide(logits) / temperature).log_softmax(2)
    return logits.log_softmax(2, dtype=torch.float32 if logits.dtype in _HALF else None)


class _Decorrelation(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, teacher: Tensor, weight: Tensor, eps: float) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            f, t = centred(features, teacher.dtype), teacher
            if f.dtype != t.dtype:
                t = wide(t)
            number, w = len(f), wide(weight)
            rest = f.mean(0, dtype=w.dtype)  # what rounding the means has left
            mean_t, var_t = moments(teacher)
            ff = product(f.T, f) / number - torch.outer(rest, rest)
            tf = product(t.T, f) / number - torch.outer(mean_t, rest)
            wff = w @ ff
            var_s, cov = (wff * w).sum(1).clamp(min=0), (w * tf).sum(1)
            a, b = var_s + eps, var_t + eps
            root = (a * b).sqrt()
            by_var, by_cov = (eps / a + cov / root) / (2 * len(w) * a), -1 / (len(w) * root)
            if any(ctx.needs_input_grad):
                by_ff, by_tf = 2 * w.T @ (by_var[:, None] * w), by_cov[:, None] * w
                by_weight = 2 * by_var[:, None] * wff + by_cov[:, None] * tf
                shift = mean_t @ by_tf + rest @ by_ff
                ctx.save_for_backward(f, t, by_ff / number, by_tf / number, shift / number, by_weight)
                ctx.dtypes = features.dtype, weight.dtype
            return ((var_s / a + var_t / b) / 2 - cov / root).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        f, t, by_ff, by_tf, shift, by_weight = ctx.saved_tensors
        slope = None
        with torch.autocast(f.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                size: Tensor | float = 1.0
                if f.dtype == torch.float16:  # its range does not hold a share of a mean over thousands
                    size = torch.maximum(by_ff.abs().amax(), by_tf.abs().amax()).clamp(min=1e-30)
                slope = product(t, (by_tf / size).to(t.dtype)) + product(f, (by_ff / size).to(f.dtype))
                slope = _times(slope.sub_(shift / size), grad * size, ctx.dtypes[0])
            return slope, None, _times(by_weight, grad, ctx.dtypes[1]) if ctx.needs_input_grad[2] else None, None


def centred(features: Tensor, teacher: torch.dtype) -> Tensor:
    """Return *features* (M, C) without their columns' means.

    They are in the *teacher*'s half precision, by which they are multiplied, where that holds them: bfloat16, or
    float16 where the features come in it. A mean that is rounded to half precision leaves a rest.
    """
    found = features - features.mean(0, dtype=wide(features[:0]).dtype).to(features.dtype)
    half = teacher == torch.bfloat16 or (teacher == torch.float16 == features.dtype and not _on_cpu(features))
    return found.to(teacher) if half else wide(found)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product in float32 at least.

    float16 lacks the range for sums over thousands. A GPU's library that multiplies in half precision and adds up in
    float32 does so in one pass; where it cannot, both sides are widened first.
    """
    if a.dtype in _HALF and not _on_cpu(a):
        try:
            return torch.mm(a, b, out_dtype=torch.float32)
        except RuntimeError as error:  # this card's library cannot, or this torch
            if is_out_of_memory(error):
                raise
            warnings.warn(f"products in half precision are widened: {first_line(error)}", RuntimeWarning, stacklevel=2)
            return wide(a) @ wide(b)
    return wide(a @ b)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of *x* (M, C) by column, in float32 at least."""
    if x.dtype in _HALF and not _on_cpu(x):  # two passes over half precision, added up in float32
        mean = x.mean(0, dtype=torch.float32)
        square = torch.linalg.vector_norm(x, dim=0, dtype=torch.float32).square() / len(x)
        return mean, (square - mean.square()).clamp(min=0)
    if not _on_cpu(x):
        mean = x.mean(0)
        return mean, (x - mean).square().mean(0)
    return _moments_by_parts(x, max(1, _CHUNK // x.shape[1]))


def _moments_by_parts(x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the moments of *x*, so many *rows* at a time.

    Caches hold these. Deviations are from the first part's mean.
    """
    parts: tuple[Tensor, ...] = x.split(rows)  # type: ignore[no-untyped-call]
    pivot = wide(parts[0]).mean(0)
    first, second = torch.zeros_like(pivot), torch.zeros_like(pivot)
    for part in parts:
        apart = wide(part) - pivot
        first += apart.sum(0)
        second += apart.square_().sum(0)
    shift = first / len(x)
    return pivot + shift, (second / len(x) - shift.square()).clamp(min=0)


def _on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _times(kept: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what was *kept* times *grad*, in *dtype*."""
    if kept.dtype == dtype:
        return kept * grad
    return torch.mul(kept, grad, out=torch.empty_like(kept, dtype=dtype))
