"""Explain the exchanged networks with autoLRP in float64; runs in its own environment (PyTorch on the CPU).

python run_autolrp.py FOLDER
"""

import sys
from pathlib import Path

import autolrp
import numpy as np
import torch
from torch_nets import nets

torch.set_default_dtype(torch.float64)
PRODUCTS = ("AddmmBackward", "MmBackward", "ConvolutionBackward")
RULES = {
    "lrp.epsilon": (1e-6, "epsilon"),
    "lrp.alpha1_beta0": (1e-12, "zplus"),
    "lrp.gamma": (1e-12, ("gamma", {"gamma": 0.25})),
    "lrp.alpha2_beta1": (1e-12, ("alpha_beta", {"alpha": 2.0, "beta": 1.0})),
}
COMPOSED = {"lrp.epsilon_plus": autolrp.LRPConfig.composite(eps=1e-6)}


def explained(net, config, *, bias):
    """Return a map."""
    x = autolrp.tensor(net.x.clone())
    net.model(bias=bias)(x)[0, net.target].lrp(config=config)
    return net.back(torch.as_tensor(x.relevance).as_subclass(torch.Tensor))


def main():
    """Write the maps of every network into the folder."""
    configs = dict(COMPOSED)
    for name, (eps, rule) in RULES.items():
        configs[name] = autolrp.LRPConfig(rule={**autolrp.BASE, **autolrp.on(PRODUCTS, rule)}, eps=eps)
    for net in nets(sys.argv[1]):
        found = {f"{name}, no biases": explained(net, config, bias=False) for name, config in configs.items()}
        if net.spec["layers"][0]["bias"]:
            found["lrp.epsilon, with biases"] = explained(net, configs["lrp.epsilon"], bias=True)
        np.savez(Path(sys.argv[1]) / f"autolrp_{net.name}.npz", **found)
        print(net.name, flush=True)


main()
