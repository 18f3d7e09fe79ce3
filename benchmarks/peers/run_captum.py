"""Explain the exchanged networks with Captum in float64; runs in its own environment (PyTorch on the CPU).

python run_captum.py FOLDER
"""

import json
import sys
from pathlib import Path

import captum.attr as attr
import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float64)


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
    return nn.Sequential(*parts)


class ToLast(nn.Module):
    """Channels to the last axis, so that flattening has the order of Keras."""

    def forward(self, x):
        """Return x with channels last."""
        return x.permute(0, 2, 3, 1)


def main():
    """Write the maps of every network into the folder."""
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("net_*.json")):
        spec = json.loads(path.read_text())
        data = np.load(path.with_suffix(".npz"))
        weights = [data[f"weight_{i}"] for i in range(sum(key.startswith("weight") for key in data))]
        image = len(spec["shape"]) == 3
        turn = (lambda a: a.transpose(0, 3, 1, 2).copy()) if image else (lambda a: a)
        back = (lambda a: a.transpose(0, 2, 3, 1)) if image else (lambda a: a)
        model = build(spec, weights).eval()
        x, x0 = (torch.tensor(turn(data[name]), requires_grad=True) for name in ("x", "x0"))
        target = spec["target"]
        found = {
            "gradient": attr.Saliency(model).attribute(x, target=target, abs=False),
            "input_x_gradient": attr.InputXGradient(model).attribute(x, target=target),
            "integrated_gradients": attr.IntegratedGradients(model).attribute(x, x0, target=target, n_steps=20),
            "deeplift": attr.DeepLift(model).attribute(x, x0, target=target),
            "guided_backprop": attr.GuidedBackprop(model).attribute(x, target=target),
            "deconvnet": attr.Deconvolution(model).attribute(x, target=target),
        }
        if not image:
            found["occlusion"] = attr.FeatureAblation(model).attribute(x, x0, target=target)
        arrays = {name: back(tensor.detach().numpy()) for name, tensor in found.items()}
        np.savez(folder / f"captum_{path.stem}.npz", **arrays)
        print(path.stem, flush=True)


main()
