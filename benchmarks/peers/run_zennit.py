"""Explain the exchanged networks with Zennit in float64; runs in its own environment (PyTorch on the CPU).

python run_zennit.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch_nets import nets, relevance
from zennit import composites, rules
from zennit.types import Activation, AvgPool, Linear

torch.set_default_dtype(torch.float64)
TINY = 1e-12
"""Zennit stabilises every denominator; kerascope only that of the epsilon rule and of average pooling."""
POOL = (AvgPool, rules.Norm(1e-6))


def everywhere(rule):
    """Return a composite with one rule at every layer."""
    return composites.LayerMapComposite([POOL, *composites.layer_map_base(TINY), (Linear, rule)])


def boxed(x):
    """Return bounds like an input."""
    return {"low": torch.full_like(x, -3.0), "high": torch.full_like(x, 3.0)}


def z_box(x):
    """Return the box rule at the first layer, z+ above."""
    above = [POOL, *composites.layer_map_base(TINY), (Linear, rules.ZPlus(TINY))]
    first = [(Linear, rules.ZBox(**boxed(x), stabilizer=TINY))]
    return composites.SpecialFirstLayerMapComposite(layer_map=above, first_map=first)


def epsilon_gamma_box(x):
    """Return the preset, its box rule at dense first layers too."""
    first = [(Linear, rules.ZBox(**boxed(x), stabilizer=TINY))]
    return composites.EpsilonGammaBox(**boxed(x), stabilizer=TINY, layer_map=[POOL], first_map=first)


def preset(name):
    """Return a maker of a preset of Zennit's."""
    return lambda x: composites.COMPOSITES[name](stabilizer=TINY, layer_map=[POOL])


ANALYZERS = {
    "lrp.epsilon": lambda x: everywhere(rules.Epsilon(1e-6)),
    "lrp.gamma": lambda x: everywhere(rules.Gamma(0.25, stabilizer=TINY)),
    "lrp.alpha1_beta0": lambda x: everywhere(rules.AlphaBeta(1, 0, stabilizer=TINY)),
    "lrp.alpha2_beta1": lambda x: everywhere(rules.AlphaBeta(2, 1, stabilizer=TINY)),
    "lrp.z_plus": lambda x: everywhere(rules.ZPlus(TINY, zero_params=["bias"])),
    "lrp.w_square": lambda x: everywhere(rules.WSquare(TINY, zero_params=["bias"])),
    "lrp.flat": lambda x: everywhere(rules.Flat(TINY)),
    "lrp.z_box": z_box,
    "lrp.epsilon_plus": preset("epsilon_plus"),
    "lrp.epsilon_plus_flat": preset("epsilon_plus_flat"),
    "lrp.epsilon_alpha2_beta1": preset("epsilon_alpha2_beta1"),
    "lrp.epsilon_alpha2_beta1_flat": preset("epsilon_alpha2_beta1_flat"),
    "lrp.epsilon_gamma_box": epsilon_gamma_box,
    "lrp.excitation_backprop": lambda x: composites.ExcitationBackprop(TINY, layer_map=[POOL], zero_params=["bias"]),
    "guided_backprop": lambda x: composites.GuidedBackprop(),
    "deconvnet": lambda x: composites.DeconvNet(),
    "gradient": lambda x: composites.LayerMapComposite([]),
}
EVEN = {
    "lrp.epsilon, no biases": rules.Epsilon(1e-6),
    "lrp.gamma, no biases": rules.Gamma(0.25, stabilizer=TINY),
    "lrp.alpha1_beta0, no biases": rules.ZPlus(TINY),
    "lrp.alpha2_beta1, no biases": rules.AlphaBeta(2, 1, stabilizer=TINY),
}
"""Rules that are run once more without Zennit's rule for average pooling, to set beside autoLRP's maps."""
FROM_ONE = ("lrp.excitation_backprop", "guided_backprop", "deconvnet", "gradient")


def even(net):
    """Return maps from one with average pooling left to its gradient."""
    found = {}
    for name, rule in EVEN.items():
        context = composites.LayerMapComposite([(Activation, rules.Pass()), (Linear, rule)]).context
        found[name] = net.back(relevance(net.model(bias=False), net.x, net.target, context, one=True))
    return found


def main():
    """Write the maps of every network into the folder."""
    for net in nets(sys.argv[1]):
        found = {}
        for name, make in ANALYZERS.items():
            context = make(net.x).context
            found[name] = net.back(relevance(net.model(), net.x, net.target, context, one=name in FROM_ONE))
        np.savez(Path(sys.argv[1]) / f"zennit_{net.name}.npz", **found)
        np.savez(Path(sys.argv[1]) / f"zennit-even_{net.name}.npz", **even(net))
        print(net.name, flush=True)


main()
