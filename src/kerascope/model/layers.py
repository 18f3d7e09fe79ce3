"""What each Keras layer is made of: the table from layer classes to primitive operations.

A converter takes a `Call` and returns the chain of primitives that computes the layer: the first takes the
call's tensors, each further one what the one before returns. An empty chain is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerascope.model.call import Call
from kerascope.model.primitives import (
    Activation,
    Affine,
    Mixture,
    Opaque,
    Primitive,
    Product,
    Route,
    Tensor,
    Winner,
    as_channels,
)

Chain = tuple[Primitive, ...]
Converter = Callable[[Call], Chain]

_ACTIVATION_NAMES = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid hard_sigmoid hard_silu softplus softsign tanh "
    "exponential log_sigmoid hard_tanh hard_shrink soft_shrink tanh_shrink threshold squareplus sparse_plus "
    "sparse_sigmoid linear softmax log_softmax"
).split()
ACTIVATIONS: dict[Any, str] = {
    getattr(keras.activations, name): name for name in _ACTIVATION_NAMES if hasattr(keras.activations, name)
}
"""Keras' own activation functions, by function."""


def activation(call: Call, fn: Any) -> Chain:
    """Return the chain of an activation function: nothing for a linear one."""
    name = "linear" if fn is None else ACTIVATIONS[fn]
    if name == "linear":
        return ()
    if name in ("softmax", "log_softmax"):
        return (Opaque(label=name, fn=fn, name=name),)
    return (Activation(label=name, name="exp" if name == "exponential" else name, fn=fn),)


def channel_axis(layer: Any, rank: int) -> int:
    """Return where a layer's output holds its channels."""
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1


def with_bias(call: Call, affine: Callable[..., Affine], bias: Any, axis: int) -> Affine:
    """Build an Affine with the layer's bias laid along the channel axis of its output."""
    vector = call.weight(bias)
    spread = None if vector is None else as_channels(vector, call.rank, axis)
    return affine(bias=spread, channel_axis=axis)


def _dense(call: Call) -> Chain:
    layer = call.op

    def build(**kw: Any) -> Affine:
        return Affine(label=call.label, form="dense", kernel=call.weight(layer.kernel), linear=ops.matmul, **kw)

    return (with_bias(call, build, layer.bias, call.rank - 1), *activation(call, layer.activation))


def _einsum_dense(call: Call) -> Chain:
    layer = call.op

    def linear(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.einsum(layer.equation, x, kernel)

    bias = call.weight(layer.bias)
    if bias is not None:
        bias = ops.reshape(bias, (1,) * (call.rank - len(bias.shape)) + tuple(bias.shape))
    affine = Affine(label=call.label, form="einsum", kernel=call.weight(layer.kernel), linear=linear, bias=bias)
    return (affine, *activation(call, layer.activation))


def convolution(call: Call, kernel: Any, bias: Any, op: Callable[..., Tensor], **facts: Any) -> Affine:
    """Build an Affine from a convolution operation and its geometry (strides, padding, ...)."""
    form, padding = facts.pop("form"), facts["padding"]
    data_format = facts["data_format"]
    axis = 1 if data_format == "channels_first" else call.rank - 1
    tensor = call.weight(kernel)
    pads = _causal_pads(call, tensor, facts) if padding == "causal" else None
    if pads is not None:
        facts["padding"] = "valid"

    def linear(x: Tensor, weights: Tensor) -> Tensor:
        return op(x if pads is None else ops.pad(x, pads), weights, **facts)

    def build(**kw: Any) -> Affine:
        return Affine(label=call.label, form=form, kernel=tensor, linear=linear, zero_padded=padding != "valid", **kw)

    return with_bias(call, build, bias, axis)


def _causal_pads(call: Call, kernel: Tensor, facts: dict[str, Any]) -> list[tuple[int, int]]:
    dilation = facts["dilation_rate"]
    left = (dilation if isinstance(dilation, int) else dilation[0]) * (kernel.shape[0] - 1)
    return [(0, 0), (0, 0), (left, 0)] if facts["data_format"] == "channels_first" else [(0, 0), (left, 0), (0, 0)]


def _geometry(layer: Any) -> dict[str, Any]:
    return {
        "strides": tuple(layer.strides),
        "padding": layer.padding,
        "data_format": layer.data_format,
        "dilation_rate": layer.dilation_rate,
    }


def _conv(call: Call) -> Chain:
    layer = call.op
    affine = convolution(call, layer.kernel, layer.bias, ops.conv, form="conv", **_geometry(layer))
    return (affine, *activation(call, layer.activation))


def _depthwise(call: Call) -> Chain:
    layer = call.op
    affine = convolution(call, layer.kernel, layer.bias, ops.depthwise_conv, form="depthwise", **_geometry(layer))
    return (affine, *activation(call, layer.activation))


def _separable(call: Call) -> Chain:
    layer = call.op
    depthwise = convolution(
        call, layer.depthwise_kernel, None, ops.depthwise_conv, form="depthwise", **_geometry(layer)
    )
    plain = {"strides": 1, "padding": "valid", "data_format": layer.data_format, "dilation_rate": 1}
    pointwise = convolution(call, layer.pointwise_kernel, layer.bias, ops.conv, form="conv", **plain)
    return (depthwise, pointwise, *activation(call, layer.activation))


def _conv_transpose(call: Call) -> Chain:
    layer = call.op
    facts = _geometry(layer) | {"output_padding": layer.output_padding}
    affine = convolution(call, layer.kernel, layer.bias, ops.conv_transpose, form="transpose", **facts)
    return (affine, *activation(call, layer.activation))


def diagonal(call: Call, scale: Any, shift: Any = None, *, label: str | None = None) -> Affine:
    """Build ``x * scale + shift``, both broadcast to the rank of the output."""

    def spread(value: Any) -> Tensor | None:
        if value is None:
            return None
        tensor = call.constant(value)
        return ops.reshape(tensor, (1,) * (call.rank - len(tensor.shape)) + tuple(tensor.shape))

    return Affine(
        label=label or call.label, form="diagonal", kernel=spread(scale), bias=spread(shift), linear=ops.multiply
    )


def _batch_norm(call: Call) -> Chain:
    layer = call.op
    if call.record.kwargs.get("training"):
        return opaque(call)
    scale = 1.0 / ops.sqrt(call.constant(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * call.constant(layer.gamma)
    shift = -call.constant(layer.moving_mean) * scale
    if layer.center:
        shift = shift + call.constant(layer.beta)
    axis = (layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis) % call.rank
    return (diagonal(call, as_channels(scale, call.rank, axis), as_channels(shift, call.rank, axis)),)


def _rescaling(call: Call) -> Chain:
    return (diagonal(call, call.op.scale, call.op.offset),)


def _normalization(call: Call) -> Chain:
    layer = call.op
    if layer.invert:
        return opaque(call)
    scale = 1.0 / ops.maximum(ops.sqrt(call.constant(layer.variance)), keras.config.epsilon())
    return (diagonal(call, scale, -call.constant(layer.mean) * scale),)


def _activation_layer(call: Call) -> Chain:
    return activation(call, call.op.activation)


def _relu_layer(call: Call) -> Chain:
    layer = call.op
    slope, threshold, top = float(layer.negative_slope or 0), float(layer.threshold or 0), layer.max_value
    if not slope and not threshold and top in (None, 6, 6.0):
        return activation(call, keras.activations.relu if top is None else keras.activations.relu6)
    name = "leaky_relu" if slope and not threshold and top is None else "clipped_relu"
    return (Activation(label=call.label, name=name, fn=call.replay()),)


def _named(name: str) -> Converter:
    return lambda call: (Activation(label=call.label, name=name, fn=call.replay()),)


def _softmax_layer(call: Call) -> Chain:
    return opaque(call, name="softmax")


def opaque(call: Call, *, name: str = "") -> Chain:
    """Return the call as it is, without a rule."""
    return (Opaque(label=call.label, fn=call.replay(), name=name),)


def identity(call: Call) -> Chain:
    """Return nothing: the call does not change its input at inference."""
    return ()


def route(call: Call) -> Chain:
    """Return the call as a rearrangement of cells."""
    return (Route(label=call.label, fn=call.replay()),)


def _padding(call: Call) -> Chain:
    return (Route(label=call.label, fn=call.replay(), pads=True),)


def reshape(call: Call) -> Chain:
    """Return a reshape to the recorded output shape, whatever the batch size."""
    target = tuple(call.out.shape[1:])
    if None in target:
        return route(call)
    return (Route(label=call.label, fn=lambda x: ops.reshape(x, (-1, *target))),)


def _upsampling(call: Call) -> Chain:
    nearest = getattr(call.op, "interpolation", "nearest") == "nearest"
    return (Route(label=call.label, fn=call.replay(), keeps_cells=nearest),)


def mixture(call: Call, *, keeps_sign: bool = True) -> Chain:
    """Return the call as a weightless linear map."""
    return (Mixture(label=call.label, fn=call.replay(), keeps_sign=keeps_sign),)


def _unmasked_mixture(call: Call) -> Chain:
    return opaque(call) if call.record.kwargs.get("mask") is not None else mixture(call)


def winner(call: Call) -> Chain:
    """Return the call as a choice of the largest or smallest."""
    return (Winner(label=call.label, fn=call.replay()),)


def _global_max(call: Call) -> Chain:
    first = call.op.data_format == "channels_first"
    rank = len(call.x.shape)
    axes = tuple(range(2, rank)) if first else tuple(range(1, rank - 1))
    return (Winner(label=call.label, fn=call.replay(), axes=axes),)


def _multiply(call: Call) -> Chain:
    return (Product(label=call.label),) if len(call.tensors) == 2 else opaque(call)


def _table(names: str, converter: Converter) -> dict[str, Converter]:
    return dict.fromkeys(names.split(), converter)


LAYERS: dict[str, Converter] = {
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    **_table("Conv1D Conv2D Conv3D", _conv),
    **_table("DepthwiseConv1D DepthwiseConv2D", _depthwise),
    **_table("SeparableConv1D SeparableConv2D", _separable),
    **_table("Conv1DTranspose Conv2DTranspose Conv3DTranspose", _conv_transpose),
    "BatchNormalization": _batch_norm,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Activation": _activation_layer,
    "ReLU": _relu_layer,
    "LeakyReLU": _named("leaky_relu"),
    "PReLU": _named("prelu"),
    "ELU": _named("elu"),
    "Softmax": _softmax_layer,
    **_table(
        "Identity Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout "
        "GaussianNoise ActivityRegularization",
        identity,
    ),
    **_table("Flatten Reshape", reshape),
    **_table("Permute RepeatVector Cropping1D Cropping2D Cropping3D", route),
    **_table("ZeroPadding1D ZeroPadding2D ZeroPadding3D", _padding),
    **_table("UpSampling1D UpSampling2D UpSampling3D", _upsampling),
    **_table("MaxPooling1D MaxPooling2D MaxPooling3D", winner),
    **_table("GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D", _global_max),
    **_table("AveragePooling1D AveragePooling2D AveragePooling3D", mixture),
    **_table("GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D", _unmasked_mixture),
    **_table("Add Average", mixture),
    "Subtract": lambda call: mixture(call, keeps_sign=False),
    **_table("Maximum Minimum", winner),
    "Concatenate": route,
    "Multiply": _multiply,
    **_table("LSTM GRU SimpleRNN ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional RNN", opaque),
    **_table("GroupNormalization Resizing CenterCrop Masking Embedding AdditiveAttention", opaque),
}
"""Layers with a known meaning, by the name of the Keras class that defines their ``call``."""


def converter_of(layer: Any) -> Converter | None:
    """Return the converter of a Keras layer, or None where the layer has to be run through.

    A user's subclass that keeps the ``call`` of a Keras layer is that layer.
    """
    owner = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    if not owner.__module__.startswith("keras.") or getattr(layer, "quantization_mode", None) is not None:
        return None
    base = owner.__name__
    name = type(layer).__name__ if type(layer).__name__ in LAYERS else _public_name(layer, base)
    fn = getattr(layer, "activation", None)
    known = fn is None or name not in _WITH_ACTIVATION or _hashable_in(fn, ACTIVATIONS)
    return LAYERS.get(name) if known else None


_WITH_ACTIVATION = frozenset(
    name for name in LAYERS if name.startswith(("Dense", "EinsumDense", "Conv", "Depthwise", "Separable"))
) - {"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"} | {"Activation"}


def _public_name(layer: Any, base: str) -> str:
    return next((cls.__name__ for cls in type(layer).__mro__ if cls.__name__ in LAYERS), base)


def _hashable_in(fn: Any, table: dict[Any, str]) -> bool:
    try:
        return fn in table
    except TypeError:
        return False
