"""The exchanged networks in PyTorch, for the peers that live there; imports nothing but NumPy and PyTorch."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn


class ToLast(nn.Module):
    """Channels to the last axis, so that flattening has the order of Keras."""

    def forward(self, x):
        """Return x with channels last."""
        return x.permute(0, 2, 3, 1)


def build(spec, weights):
    """Return the network in PyTorch's layout (channels first), flattened in Keras' order."""
    weights, parts, channels = iter(weights), [], spec["shape"][-1]
    for part in spec["layers"]:
        kind = part["kind"]
        if kind == "conv":
            padding = part["size"] // 2 if part["padding"] == "same" else 0
            layer = nn.Conv2d(channels, part["filters"], part["size"], padding=padding, bias=part["bias"])
            layer.weight.data = torch.tensor(next(weights).transpose(3, 2, 0, 1))
            channels = part["filters"]
        elif kind == "dense":
            kernel = next(weights)
            layer = nn.Linear(*kernel.shape, bias=part["bias"])
            layer.weight.data = torch.tensor(kernel.T)
        elif kind == "flatten":
            parts.append(ToLast())
            layer = nn.Flatten()
        else:
            layer = nn.AvgPool2d(2) if kind == "average" else nn.MaxPool2d(2)
        if part.get("bias"):
            layer.bias.data = torch.tensor(next(weights))
        parts.append(layer)
        if part.get("relu"):
            parts.append(nn.ReLU())
    return nn.Sequential(*parts).eval()


class Net:
    """One exchanged network with its input, a second input, and the class to explain."""

    def __init__(self, path):
        """Read a network's JSON and arrays."""
        self.name, self.spec = path.stem, json.loads(path.read_text())
        data = np.load(path.with_suffix(".npz"))
        self.weights = [data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in data))]
        self.is_image, self.target = len(self.spec["shape"]) == 3, self.spec["target"]
        self.pooling = next((p["kind"] for p in self.spec["layers"] if p["kind"] in ("average", "max")), None)
        self.x, self.x0 = (self.turned(data[name]) for name in ("x", "x0"))

    def turned(self, array):
        """Return a sample in PyTorch's layout."""
        return torch.tensor(array.transpose(0, 3, 1, 2).copy() if self.is_image else array)

    def back(self, tensor):
        """Return a map in Keras' layout."""
        array = tensor.detach().numpy()
        return array.transpose(0, 2, 3, 1) if self.is_image and array.ndim == 4 else array

    def model(self, *, bias=True):
        """Return a new model, with its biases or without any."""
        if bias:
            return build(self.spec, self.weights)
        parts = [part | {"bias": False} for part in self.spec["layers"]]
        return build(self.spec | {"layers": parts}, [w for w in self.weights if w.ndim > 1])


def nets(folder) -> Iterator[Net]:
    """Yield the networks of the exchange folder."""
    for path in sorted(Path(folder).glob("net_*.json")):
        yield Net(path)


def relevance(model, x, target, context, *, one=False):
    """Return a map by a peer's hooks, from the value of the explained output (or from one)."""
    x = x.clone().requires_grad_(True)
    with context(model) as hooked:
        output = hooked(x)
        seed = torch.zeros_like(output)
        seed[:, target] = 1.0 if one else output.detach()[:, target]
        return torch.autograd.grad(output, x, seed)[0]
