"""What each `keras.ops` operation is made of: the table from operation classes to primitives."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kerascope.model.call import Call
from kerascope.model.layers import (
    Chain,
    Converter,
    convolution,
    diagonal,
    identity,
    mixture,
    opaque,
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
    return (diagonal(call, 1.0, right if _is_tensor(left) else left),)


def _subtract(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return mixture(call, keeps_sign=False)
    if _is_tensor(left):
        return (diagonal(call, 1.0, -call.constant(right)),)
    return (diagonal(call, -1.0, left),)


def _multiply(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return (Product(label=call.label),)
    return (diagonal(call, right if _is_tensor(left) else left),)


def _divide(call: Call) -> Chain:
    left, right = call.operands
    if _is_tensor(left) and not _is_tensor(right):
        return (diagonal(call, 1.0 / call.constant(right)),)
    return opaque(call)


def _negative(call: Call) -> Chain:
    return (diagonal(call, -1.0),)


def _extreme(call: Call) -> Chain:
    """Maximum and Minimum: of two tensors, or of a tensor and a constant (``maximum(x, 0)`` is a ReLU)."""
    left, right = call.operands
    if _is_tensor(left) and _is_tensor(right):
        return winner(call)
    bound = right if _is_tensor(left) else left
    if call.label == "Maximum" and _is_zero(bound):
        return (Activation(label="relu", name="relu", fn=ops.relu),)
    return (Activation(label=call.label, name=call.label.lower(), fn=call.replay()),)


def _is_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == 0


def _matmul(call: Call) -> Chain:
    left, right = call.operands
    if not _is_tensor(left) or _is_tensor(right) or len(right.shape) != 2:
        return opaque(call)
    return (Affine(label=call.label, form="dense", kernel=call.constant(right), linear=ops.matmul),)


def _einsum(call: Call) -> Chain:
    operands = [value for value in call.record.args if not isinstance(value, str)]
    if len(operands) != 2 or not _is_tensor(operands[0]) or _is_tensor(operands[1]):
        return opaque(call)
    equation = call.op.subscripts

    def linear(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.einsum(equation, x, kernel)

    return (Affine(label=call.label, form="einsum", kernel=call.constant(operands[1]), linear=linear),)


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
    if axes is None or call.op.initial is not None or call.op.keepdims:
        return opaque(call)
    return (Winner(label=call.label, fn=call.replay(), axes=axes),)


def _relu(call: Call) -> Chain:
    return (Activation(label="relu", name="relu", fn=ops.relu),)


def _elementwise(name: str) -> Converter:
    return lambda call: (Activation(label=name, name=name, fn=call.replay()),)


def _softmax(name: str) -> Converter:
    return lambda call: opaque(call, name=name)


def _cast(call: Call) -> Chain:
    floats = keras.backend.is_float_dtype(call.x.dtype) and keras.backend.is_float_dtype(call.out.dtype)
    return () if floats else opaque(call)


def _concatenate(call: Call) -> Chain:
    constants = any(not _is_tensor(leaf) for leaf in keras.tree.flatten(call.record.args[0]))
    return (Route(label=call.label, fn=call.replay(), pads=constants),)


def _pad(call: Call) -> Chain:
    zeros = getattr(call.op, "mode", "constant") == "constant"
    return (Route(label=call.label, fn=call.replay(), pads=zeros),)


def _power(call: Call) -> Chain:
    exponent = call.operands[1]
    if isinstance(exponent, (int, float)) and math.isfinite(exponent):
        return _elementwise("power")(call)
    return opaque(call)


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
}

OPERATIONS: dict[str, Converter] = {
    "Add": _add,
    "Subtract": _subtract,
    "Multiply": _multiply,
    **_table("Divide TrueDivide", _divide),
    "Negative": _negative,
    **_table("Maximum Minimum", _extreme),
    "Matmul": _matmul,
    "Einsum": _einsum,
    "Conv": _conv(ops.conv, "conv", *_GEOMETRY),
    "DepthwiseConv": _conv(ops.depthwise_conv, "depthwise", *_GEOMETRY),
    "ConvTranspose": _conv(ops.conv_transpose, "transpose", *_GEOMETRY, "output_padding"),
    **_table("Mean Sum", _sum),
    **_table("Max Amax", _max),
    "Relu": _relu,
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
        "Transpose Moveaxis Swapaxes Stack Split GetItem Flip Repeat Tile BroadcastTo Roll Take Slice Hstack "
        "Vstack Rot90 Unstack",
        route,
    ),
    **_table("Concatenate", _concatenate),
    "Pad": _pad,
}
"""Operations with a known meaning, by class name; any other can be differentiated but has no rule."""
