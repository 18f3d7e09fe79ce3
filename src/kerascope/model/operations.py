"""What each `keras.ops` operation is made of: the table from operation classes to primitives."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope.model.attention import attention
from kerascope.model.call import Call
from kerascope.model.layers import (
    Chain,
    Converter,
    convolution,
    diagonal,
    identity,
    join,
    mixture,
    opaque,
    relu,
    reshape,
    route,
    winner,
)
from kerascope.model.primitives import Activation, Affine, Mixture, Product, Route, Tensor, Winner


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _add(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return mixture(call)
    return diagonal(call, 1.0, right if _is_tensor(left) else left)


def _subtract(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return mixture(call, keeps_sign=False)
    return diagonal(call, 1.0, -call.array(right)) if _is_tensor(left) else diagonal(call, -1.0, left)


def _multiply(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return (Product(label=call.label),)
    return diagonal(call, right if _is_tensor(left) else left)


def _divide(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left):
        return opaque(call) if _is_tensor(right) else diagonal(call, 1 / call.array(right))
    return _elementwise("reciprocal")(call)


def _negative(call: Call) -> Chain:
    return diagonal(call, -1.0)


def _extreme(call: Call) -> Chain:
    """Maximum and Minimum: of two tensors, or of a tensor and a constant (``maximum(x, 0)`` is a ReLU)."""
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return winner(call)
    if call.x.shape != call.out.shape:
        return opaque(call)
    bound = call.array(right if _is_tensor(left) else left)
    if call.label == "Maximum" and not bound.any():
        return (Activation(label="relu", name="relu", fn=ops.relu),)
    return _elementwise(call.label.lower())(call)


def _matmul(call: Call) -> Chain:
    """A product with a constant matrix; on the right it is a dense layer."""
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return opaque(call)
    constant = call.constant(right if _is_tensor(left) else left)
    dense = _is_tensor(left) and len(constant.shape) == 2
    if not dense and len(constant.shape) >= len(call.x.shape):
        return opaque(call)  # the constant's first axis would meet the samples
    form = "dense" if dense else "einsum"

    def from_left(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(kernel, x)

    linear = ops.matmul if _is_tensor(left) else from_left
    return (Affine(label=call.label, form=form, kernel=constant, linear=linear),)


def _dot(call: Call) -> Chain:
    """``dot(x, matrix)``: with two axes the same as a matrix product."""
    left, right = call.operands
    flat = _is_tensor(left) and not _is_tensor(right) and len(right.shape) == 2
    return _matmul(call) if flat else opaque(call)


def _einsum(call: Call) -> Chain:
    operands = [value for value in call.record.args if not isinstance(value, str)]
    if len(operands) != 2 or sum(map(_is_tensor, operands)) != 1:
        return opaque(call)
    equation, first = call.op.subscripts, _is_tensor(operands[0])

    def linear(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.einsum(equation, x, kernel) if first else ops.einsum(equation, kernel, x)

    kernel = call.constant(operands[1] if first else operands[0])
    return (Affine(label=call.label, form="einsum", kernel=kernel, linear=linear),)


def _conv(op: Any, form: str, *facts: str) -> Converter:
    def convert(call: Call) -> Chain:
        args = list(call.record.args)
        kernel = args[1] if len(args) > 1 else call.record.kwargs.get("kernel")
        if kernel is None or _is_tensor(kernel):
            return opaque(call)
        geometry = {fact: getattr(call.op, fact) for fact in facts}
        if geometry.get("data_format") is None:
            geometry["data_format"] = keras.config.image_data_format()
        return (convolution(call, kernel, None, op, form=form, **geometry),)

    return convert


_GEOMETRY = ("strides", "padding", "data_format", "dilation_rate")


def _reduction(call: Call) -> tuple[int, ...] | None:
    """Return the axes of a reduction, or None where it runs over the batch axis too."""
    axis = call.op.axis
    if axis is None:
        return None
    rank = len(call.x.shape)
    axes = tuple(a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis]))
    return None if 0 in axes else axes


def _sum(call: Call) -> Chain:
    return opaque(call) if _reduction(call) is None else (Mixture(label=call.label, fn=call.replay()),)


def _max(call: Call) -> Chain:
    axes = _reduction(call)
    if axes is None or call.op.initial is not None:
        return opaque(call)
    return (Winner(label=call.label, fn=call.replay(), axes=axes),)


def _relu(call: Call) -> Chain:
    return (Activation(label="relu", name="relu", fn=ops.relu),)


def _elementwise(name: str) -> Converter:
    def convert(call: Call) -> Chain:
        one = len(call.tensors) == 1 and call.x.shape == call.out.shape
        return (Activation(label=name, name=name, fn=call.replay()),) if one else opaque(call)

    return convert


def _softmax(name: str) -> Converter:
    return lambda call: opaque(call, name=name)


def _cast(call: Call) -> Chain:
    floats = keras.backend.is_float_dtype(call.x.dtype) and keras.backend.is_float_dtype(call.out.dtype)
    return () if floats else opaque(call)


def _pad(call: Call) -> Chain:
    filled = getattr(call.op, "mode", "constant") == "constant"
    positive = not filled or all((call.array(value) >= 0).all() for value in call.constants)
    return (Route(label=call.label, fn=call.replay(), pads=filled, keeps_sign=positive),)


def _power(call: Call) -> Chain:
    base, exponent = call.operands
    if not _is_tensor(base) or _is_tensor(exponent):
        return opaque(call)
    return _elementwise("square" if np.all(call.array(exponent) == 2) else "power")(call)


def _table(names: str, converter: Converter) -> dict[str, Converter]:
    return dict.fromkeys(names.split(), converter)


_ELEMENTWISE = {
    "Relu6": "relu6",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Selu": "selu",
    "Celu": "celu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardSwish": "hard_silu",
    "HardTanh": "hard_tanh",
    "HardShrink": "hard_shrink",
    "SoftShrink": "soft_shrink",
    "TanhShrink": "tanh_shrink",
    "Threshold": "threshold",
    "LogSigmoid": "log_sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "SparsePlus": "sparse_plus",
    "Squareplus": "squareplus",
    "Tanh": "tanh",
    "Exp": "exp",
    "Expm1": "expm1",
    "Log": "log",
    "Log1p": "log1p",
    "Sqrt": "sqrt",
    "Square": "square",
    "Absolute": "abs",
    "Abs": "abs",
    "Sin": "sin",
    "Cos": "cos",
    "Arctan": "arctan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Erf": "erf",
    "Clip": "clip",
    "Reciprocal": "reciprocal",
    "Rsqrt": "rsqrt",
    "Log2": "log2",
    "Log10": "log10",
    "Exp2": "exp2",
    "Cbrt": "cbrt",
    "Tan": "tan",
    "Arcsin": "arcsin",
    "Arccos": "arccos",
    "Arcsinh": "arcsinh",
    "Arctanh": "arctanh",
    "Erfc": "erfc",
    "Sinc": "sinc",
    "SparseSigmoid": "sparse_sigmoid",
}

OPERATIONS: dict[str, Converter] = {
    "Add": _add,
    "Subtract": _subtract,
    "Multiply": _multiply,
    **_table("Divide TrueDivide", _divide),
    "Negative": _negative,
    **_table("Maximum Minimum", _extreme),
    "Matmul": _matmul,
    "Dot": _dot,
    "Einsum": _einsum,
    "Conv": _conv(ops.conv, "conv", *_GEOMETRY),
    "DepthwiseConv": _conv(ops.depthwise_conv, "depthwise", *_GEOMETRY),
    "ConvTranspose": _conv(ops.conv_transpose, "transpose", *_GEOMETRY, "output_padding"),
    **_table("Mean Sum", _sum),
    "Cumsum": _sum,
    **_table("Max Amax", _max),
    "Relu": _relu,
    "ReLU": relu,
    **{name: _elementwise(short) for name, short in _ELEMENTWISE.items()},
    "Power": _power,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "MaxPool": winner,
    "AveragePool": mixture,
    "Cast": _cast,
    **_table("ConvertToTensor Identity Copy", identity),
    **_table("Reshape Squeeze ExpandDims Ravel", reshape),
    **_table(
        "Transpose Moveaxis Swapaxes Split GetItem Flip Repeat Tile BroadcastTo Roll Take Slice Rot90 Unstack",
        route,
    ),
    **_table("Concatenate Stack Hstack Vstack", join),
    "Pad": _pad,
    "DotProductAttention": attention,
}
"""Operations with a known meaning, by class name; any other can be differentiated but has no rule."""
