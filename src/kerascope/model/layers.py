"""What each Keras layer is made of: the table from layer classes to primitive operations.

A converter takes a `Call` and returns the chain of primitives that computes the layer: the first takes the
call's tensors, each further one what the one before returns. An empty chain is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
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
    "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid hard_sigmoid hard_silu softplus softsign tanh",
    "exponential log_sigmoid hard_tanh hard_shrink soft_shrink tanh_shrink threshold squareplus sparse_plus",
    "sparse_sigmoid linear softmax log_softmax",
)
ACTIVATIONS: dict[Any, str] = {
    getattr(keras.activations, name): name
    for name in " ".join(_ACTIVATION_NAMES).split()
    if hasattr(keras.activations, name)
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
    spread = None if bias is None else backend.from_numpy(as_channels(call.array(bias), call.rank, axis))
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

    bias = None if layer.bias is None else _padded_rank(call.array(layer.bias), call.rank)
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


def diagonal(call: Call, scale: Any, shift: Any = None) -> Chain:
    """Return ``x * scale + shift``, both broadcast to the output; no rule where they reshape x."""
    x, out = tuple(call.x.shape), tuple(call.out.shape)
    factor, term = call.array(scale), None if shift is None else call.array(shift)
    given = [factor] if term is None else [factor, term]
    if len(x) != len(out) or any(array.ndim == len(out) and array.shape[0] != 1 for array in given):
        return opaque(call)
    kernel = _spread(factor, len(out))
    if x[1:] != out[1:]:  # each input cell serves several outputs: the kernel has one entry for each
        if None in out[1:]:
            return opaque(call)
        kernel = np.broadcast_to(kernel, (1, *out[1:])).copy()
    bias = None if term is None else _padded_rank(term, len(out))
    tensor = backend.from_numpy(kernel)
    return (Affine(label=call.label, form="diagonal", kernel=tensor, bias=bias, linear=ops.multiply),)


def _spread(array: np.ndarray, rank: int) -> np.ndarray:
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _padded_rank(array: np.ndarray, rank: int) -> Tensor:
    """Return an array as a tensor of that rank, with axes of length 1 in front."""
    return backend.from_numpy(_spread(array, rank))


def _batch_norm(call: Call) -> Chain:
    layer = call.op
    if call.record.kwargs.get("training") and layer.trainable:
        return opaque(call)
    scale = 1 / np.sqrt(call.array(layer.moving_variance) + layer.epsilon, dtype=call.dtype)
    if layer.scale:
        scale = scale * call.array(layer.gamma)
    shift = -call.array(layer.moving_mean) * scale
    if layer.center:
        shift = shift + call.array(layer.beta)
    axis = (layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis) % call.rank
    return diagonal(call, as_channels(scale, call.rank, axis), as_channels(shift, call.rank, axis))


def _rescaling(call: Call) -> Chain:
    scale, offset = call.array(call.op.scale), call.array(call.op.offset)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))  # as the layer does, to the scale alone
    return diagonal(call, scale, offset)


def _normalization(call: Call) -> Chain:
    layer = call.op
    mean = call.array(layer.mean)
    width = np.maximum(np.sqrt(call.array(layer.variance)), np.asarray(keras.config.epsilon(), call.dtype))
    return diagonal(call, width, mean) if layer.invert else diagonal(call, 1 / width, -mean / width)


def _activation_layer(call: Call) -> Chain:
    return activation(call, call.op.activation)


def relu(call: Call) -> Chain:
    """Return a ReLU with whatever slope, threshold and maximum the layer or operation holds."""
    layer = call.op
    slope, threshold, top = float(layer.negative_slope or 0), float(layer.threshold or 0), layer.max_value
    if not slope and not threshold and top in (None, 6, 6.0):
        return activation(call, keras.activations.relu if top is None else keras.activations.relu6)
    name = "leaky_relu" if slope and not threshold and top is None else "clipped_relu"
    return (Activation(label=call.label, name=name, fn=call.replay()),)


def _named(name: str) -> Converter:
    return lambda call: (Activation(label=call.label, name=name, fn=call.replay()),)


def _prelu(call: Call) -> Chain:
    alpha = _padded_rank(call.array(call.op.alpha), call.rank)

    def fn(x: Tensor) -> Tensor:
        return ops.relu(x) - alpha * ops.relu(-x)

    return (Activation(label=call.label, name="prelu", fn=fn),)


def _softmax_layer(call: Call) -> Chain:
    return opaque(call, name="softmax")


def opaque(call: Call, *, name: str = "") -> Chain:
    """Return the call as it is, without a rule."""
    return (Opaque(label=call.label, fn=call.replay(), name=name),)


def _recurrent(call: Call) -> Chain:
    """Return the call without a rule, and whether its steps come last first."""
    turned = getattr(call.op, "go_backwards", False) and getattr(call.op, "return_sequences", False)
    return (Opaque(label=call.label, fn=call.replay(), reverses=bool(turned)),)


def identity(call: Call) -> Chain:
    """Return nothing: the call does not change its input at inference."""
    return ()


def _augmentation(call: Call) -> Chain:
    return opaque(call) if call.record.kwargs.get("training") else ()


def route(call: Call) -> Chain:
    """Return the call as a rearrangement of cells."""
    return (Route(label=call.label, fn=call.replay()),)


def _padding(call: Call) -> Chain:
    return (Route(label=call.label, fn=call.replay(), pads=True),)


def reshape(call: Call) -> Chain:
    """Return a reshape to the recorded output shape, whatever the batch size."""
    target = tuple(call.out.shape[1:])
    if None in target:
        return _reshape_of_batch(call)
    return (Route(label=call.label, fn=lambda x: ops.reshape(x, (-1, *target))),)


def _reshape_of_batch(call: Call) -> Chain:
    """Return ``reshape(x, (shape(x)[0], ...))`` with a size left open: the batch size is None in a trace."""
    sizes = tuple(getattr(call.op, "newshape", ()))
    if sizes[:1] != (None,) or None in sizes[1:]:
        return route(call)
    return (Route(label=call.label, fn=lambda x: ops.reshape(x, (ops.shape(x)[0], *sizes[1:]))),)


def _flatten(call: Call) -> Chain:
    """Return a flattening; of channels-first data it puts the channels last before."""
    return reshape(call) if call.op.data_format == "channels_last" else route(call)


def _upsampling(call: Call) -> Chain:
    how = getattr(call.op, "interpolation", "nearest")
    positive = how in ("nearest", "bilinear")
    return (Route(label=call.label, fn=call.replay(), keeps_cells=how == "nearest", keeps_sign=positive),)


def _resizing(call: Call) -> Chain:
    layer = call.op
    cuts = layer.crop_to_aspect_ratio or getattr(layer, "pad_to_aspect_ratio", False)
    return opaque(call) if cuts or layer.interpolation not in ("nearest", "bilinear") else _upsampling(call)


def mixture(call: Call, *, keeps_sign: bool = True) -> Chain:
    """Return the call as a weightless linear map."""
    return (Mixture(label=call.label, fn=call.replay(), keeps_sign=keeps_sign),)


def join(call: Call) -> Chain:
    """Return a concatenation or stack, also of constants."""
    constants = call.constants
    positive = all((call.array(value) >= 0).all() for value in constants)
    return (Route(label=call.label, fn=call.replay(), pads=bool(constants), keeps_sign=positive),)


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
    "ReLU": relu,
    "LeakyReLU": _named("leaky_relu"),
    "PReLU": _prelu,
    "ELU": _named("elu"),
    "Softmax": _softmax_layer,
    **_table(
        "Identity Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout "
        "GaussianNoise ActivityRegularization",
        identity,
    ),
    **_table(
        "RandomBrightness RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom",
        _augmentation,
    ),
    "Flatten": _flatten,
    "Reshape": reshape,
    **_table("Permute RepeatVector Cropping1D Cropping2D Cropping3D", route),
    **_table("ZeroPadding1D ZeroPadding2D ZeroPadding3D", _padding),
    **_table("UpSampling1D UpSampling2D UpSampling3D", _upsampling),
    **_table("MaxPooling1D MaxPooling2D MaxPooling3D", winner),
    **_table("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", winner),
    **_table("GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D", _global_max),
    **_table("AveragePooling1D AveragePooling2D AveragePooling3D", mixture),
    **_table("AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D", mixture),
    **_table("GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D", _unmasked_mixture),
    **_table("Add Average", mixture),
    "Subtract": lambda call: mixture(call, keeps_sign=False),
    **_table("Maximum Minimum", winner),
    "Concatenate": join,
    "Multiply": _multiply,
    **_table("LSTM GRU SimpleRNN ConvLSTM1D ConvLSTM2D ConvLSTM3D RNN", _recurrent),
    "Bidirectional": opaque,
    "Resizing": _resizing,
    **_table("LayerNormalization GroupNormalization UnitNormalization RMSNormalization", opaque),
    **_table("CenterCrop Masking Embedding AdditiveAttention", opaque),
}
"""Layers with a known meaning, by the name of the Keras class that defines their ``call``."""


_WITH_ACTIVATION = frozenset(
    name for name in LAYERS if name.startswith(("Dense", "EinsumDense", "Conv", "Depthwise", "Separable"))
) - {"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"} | {"Activation"}

_FREE = frozenset(
    [
        "build",
        "get_config",
        "from_config",
        "get_build_config",
        "build_from_config",
        "compute_output_shape",
        "compute_output_spec",
    ]
)
"""What a user's subclass may define anew and still compute what the Keras layer computes."""


def converter_of(layer: Any) -> Converter | None:
    """Return the converter of a Keras layer, or None where the layer has to be run through.

    A user's subclass that only adds to a Keras layer is that layer; one that replaces a part of it is not.
    """
    known = next((cls for cls in type(layer).__mro__ if _is_known(cls)), None)
    if known is None or getattr(layer, "quantization_mode", None) is not None:
        return None
    above = type(layer).__mro__[: type(layer).__mro__.index(known)]
    if any(_replaces(name, known) for cls in above for name in vars(cls)):
        return None
    if known.__name__ in _WITH_ACTIVATION and not _is_listed(getattr(layer, "activation", None)):
        return None
    return LAYERS[known.__name__]


def _is_known(cls: type) -> bool:
    return cls.__name__ in LAYERS and cls.__module__.startswith("keras.")


def _replaces(name: str, known: type) -> bool:
    return not name.startswith("__") and name not in _FREE and hasattr(known, name)


def _is_listed(fn: Any) -> bool:
    try:
        return fn is None or fn in ACTIVATIONS
    except TypeError:
        return False
