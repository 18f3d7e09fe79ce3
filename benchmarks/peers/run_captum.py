"""Explain the exchanged networks with Captum in float64; runs in its own environment (PyTorch on the CPU).

python run_captum.py FOLDER
"""

import sys
from pathlib import Path

import captum.attr as attr
import numpy as np
import torch
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import nn
from torch_nets import ToLast, nets

torch.set_default_dtype(torch.float64)
GROUPS = torch.arange(10)[None] // 2
"""Five players of two inputs each: Captum's exact Shapley values go through every order of the players."""


def ruled(model, between):
    """Give every layer an LRP rule: epsilon at the first and the last, another one between."""
    kernels = [layer for layer in model if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in model:
        if isinstance(layer, (ToLast, nn.Flatten, nn.AvgPool2d)):
            layer.rule = EpsilonRule(1e-6 if isinstance(layer, nn.AvgPool2d) else 1e-15)
    for layer in kernels:
        layer.rule = EpsilonRule(1e-6) if layer in (kernels[0], kernels[-1]) else between()
    return model


def gradients(net):
    """Return what follows from gradients."""
    model, target = net.model(), net.target
    x, x0 = net.x.clone().requires_grad_(True), net.x0.clone().requires_grad_(True)
    found = {
        "gradient": attr.Saliency(model).attribute(x, target=target, abs=False),
        "input_x_gradient": attr.InputXGradient(model).attribute(x, target=target),
        "integrated_gradients": attr.IntegratedGradients(model).attribute(x, x0, target=target, n_steps=20),
        "deeplift": attr.DeepLift(model).attribute(x, x0, target=target),
        "guided_backprop": attr.GuidedBackprop(model).attribute(x, target=target),
        "deconvnet": attr.Deconvolution(model).attribute(x, target=target),
    }
    if net.is_image:
        last = [layer for layer in model if isinstance(layer, nn.ReLU)][-1]
        found["grad_cam"] = attr.LayerGradCam(model, last).attribute(x, target=target, relu_attributions=True)
    return found


def by_relevance(net):
    """Return LRP; the gamma rule only without biases, which Captum's leaves as they are."""
    rules = {
        "lrp.epsilon": (True, lambda: EpsilonRule(1e-6)),
        "lrp gamma between, no biases": (False, lambda: GammaRule(gamma=0.25)),
        "lrp alpha1_beta0 between, no biases": (False, Alpha1_Beta0_Rule),
    }
    found = {}
    for name, (bias, between) in rules.items():
        model = ruled(net.model(bias=bias), between)
        found[name] = attr.LRP(model).attribute(net.x.clone().requires_grad_(True), target=net.target)
    return found


def by_questions(net):
    """Return what asks about changed inputs."""
    model, target, given = net.model(), net.target, {"baselines": net.x0, "feature_mask": GROUPS}
    found = {
        "occlusion": attr.FeatureAblation(model).attribute(net.x, net.x0, target=target),
        "shapley_exact of groups": attr.ShapleyValues(model).attribute(net.x, target=target, **given),
    }
    for samples in (100, 1600):
        torch.manual_seed(100 * samples + int(net.name[-2:]))
        drawn = attr.ShapleyValueSampling(model).attribute(net.x, target=target, n_samples=samples, **given)
        found[f"drawn: sampled shapley, {samples}"] = drawn
        fit = attr.KernelShap(model).attribute(net.x, target=target, n_samples=samples, **given)
        found[f"drawn: kernel_shap, {samples}"] = fit
    return found


def main():
    """Write the maps of every network into the folder."""
    for net in nets(sys.argv[1]):
        found = {**gradients(net), **by_relevance(net), **({} if net.is_image else by_questions(net))}
        arrays = {name: net.back(tensor) for name, tensor in found.items()}
        np.savez(Path(sys.argv[1]) / f"captum_{net.name}.npz", **arrays)
        print(net.name, flush=True)


main()
