# ruff: noqa: E501 - rows of tables cannot be broken
"""Write the pages that follow from the code: docs/which-method.md and docs/from-innvestigate.md.

Usage: make_method_docs.py [--check]

With --check nothing is written; the exit status is 1 if a page is not what the code says.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

from kerascope.innvestigate.absent import ATTRIBUTES, ELSEWHERE
from kerascope.innvestigate.names import ANALYZERS, COMMON, RULES, UNBOUND
from kerascope.methods.base import AXIOMS
from kerascope.registry import METHODS

DOCS = Path(__file__).resolve().parent.parent / "docs"

INTRODUCTION = """# Which method?

*Made by `scripts/make_method_docs.py` from what the methods say of themselves; the axioms are tested on every method
that claims them (`tests/contracts/test_axioms.py`).*

First ask which question is asked. Filter, signal and contribution differ already for a linear model, and none of them
is "the" explanation.

| you ask | family | begin with | do not take |
|---|---|---|---|
| How would the output change if I changed the input a little? | function | `gradient`, `smoothgrad` | signal or attribution maps |
| What in the data carries what the network detects? | signal | `patternnet` (needs training data) | `gradient`: it shows the filter, whose direction is set by the noise it has to cancel (Haufe et al. 2014) |
| How much did each cell contribute to this output? | attribution | `integrated_gradients` or `deeplift` with a background; `lrp` in one pass without | `guided_backprop`, anything without sign |
| What does the model lose without this row, column or block? | perturbation | `occlusion`, `shapley_sampling` by groups | single-cell maps where rows are correlated |
| Where, coarsely, is the evidence? | localisation | `hires_cam`, `grad_cam` | reading an enlarged map cell by cell |
| Why this class rather than that one? | any linear in the target | the same, with `target=ks.Contrast(a, b)` | comparing two maps scaled apart |
| Is there anything in my map at all? | control | `random`, `input`, `edges` beside it | - |

What to know before believing a map:

- **A baseline decides the answer** of integrated gradients, DeepLIFT, occlusion and Shapley values: a cell that equals
  the baseline gets nothing, whatever it means. Give background samples; zeros are a choice to be made by name.
- **Guided Backprop and DeconvNet** depend little on the upper layers and on the class (Adebayo et al. 2018; Nie et al.
  2018). They are sketches of the signal.
- **z+ everywhere** (`lrp.z_plus`, `deep_taylor`, `lrp.excitation_backprop`) loses the class with depth: maps of two
  classes become alike (Sixt et al. 2020). Composites with epsilon on top keep it, and so does a contrast.
- **Minima and products hide.** Where the output follows the smaller of two inputs, gradients and the Rescale rule give
  it all the credit; `deeplift.reveal_cancel` and Shapley values share it (Shrikumar et al. 2017).
- **Correlated rows** share credit in ways no method can settle: move them together (`groups=`).
- **Sampled methods** carry a standard error (`.standard_error`); look at it before reading small differences.

## What every axiom means

"""


def page() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION.rstrip("\n"), ""]
    lines += [f"- **{name}**: {text}." for name, text in AXIOMS.items()]
    lines += [
        "",
        "What is left out of a row below does not hold for every model. Completeness of `integrated_gradients` is up",
        "to its quadrature; every result carries its own gap.",
    ]
    families = list(dict.fromkeys(method.family for method in METHODS.values()))
    for family in families:
        lines += ["", f"## {family.capitalize()}", ""]
        lines += ["| method | question | needs | its values sum to | axioms | paper |", "|---|---|---|---|---|---|"]
        for name, method in METHODS.items():
            if method.family == family:
                cells = (method.question, method.needs, method.promise, ", ".join(method.axioms), method.paper)
                lines.append(f"| `{name}` | " + " | ".join(cell or "-" for cell in cells) + " |")
    lines += ["", "`ks.LRP().citation()` gives a method's paper as BibTeX, `kerascope methods NAME` all its facts.", ""]
    return "\n".join(lines)


FROM_INNVESTIGATE = """# Coming from iNNvestigate

*Made by `scripts/make_method_docs.py` from `kerascope/innvestigate/names.py` and `absent.py`.*

iNNvestigate 2.1.2 ends at TensorFlow 2.14 and Keras 2. Its names go on here, on Keras 3 with TensorFlow, JAX or PyTorch:

```python
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # or "tensorflow" or "torch": before Keras is imported
import kerascope as ks

model = ks.load_model(ks.datasets.demo_file("planted.keras"))
x, x_train = ks.datasets.planted(5, seed=1).x[..., None], ks.datasets.planted(100, seed=2).x[..., None]

analyzer = ks.create_analyzer("lrp.sequential_preset_a_flat", model)
relevance = analyzer.analyze(x)
analyzer = ks.create_analyzer("gradient", model)
relevance = analyzer.analyze(x, neuron_selection=3)
rule = [(lambda layer: "dense" in layer.name, "Epsilon"), (lambda layer: True, "Alpha1Beta0")]
relevance = ks.create_analyzer("lrp", model, rule=rule).analyze(x)
patterns = ks.create_analyzer("pattern.attribution", model).fit(x_train)
relevance = patterns.analyze(x)
```

No eager mode to switch off, no `model_wo_softmax`: a final softmax is taken off by itself, and the result of `ks.explain`
says so. `ks.explain(model, x, "lrp.epsilon_plus_flat")` gives more than the map: what was explained, the completeness
gap, what biases absorbed, tables of rows and columns, a report.

## Two conventions

`conventions="kerascope"` (the default) is our method of that name. `conventions="innvestigate"` repeats the numbers of
2.1.2, refuses what 2.1.2 refuses, and warns of what is wrong in them. For LRP and deep Taylor that is said by `analyze`: only
of rules that stand somewhere and of layers that are there, with their names. What differs:

| | iNNvestigate 2.1.2 | kerascope |
|---|---|---|
| start of guided_backprop, deconvnet | the logit: a factor in every map, and another map where it is negative | one; `start="logit"` |
| bias in alpha-beta | the whole bias in both denominators | its positive part in one, its negative in the other |
| denominator exactly zero | 1e-7 in its place | nothing is passed on; counted as absorbed |
| BatchNormalization in LRP | another map (variance squared, gamma missing in the offset), and relevance doubled by presets | folded where exact, checked against the model; else the epsilon rule |
| `ReLU()` layer or `activation="relu"` | two answers for one function: below flat, w^2, the box rule and what deep Taylor differentiates; with `LeakyReLU()` below every rule | one |
| activations other than ReLU | refused by deep Taylor and the presets | refused by deep Taylor |
| Add, average pooling | z rule in LRP; copied like a gradient in deep Taylor | in proportion, always |
| rule of the input layer | behind Flatten, Permute, Reshape only, else silently nowhere | also behind padding, Rescaling, Normalization |
| deep_taylor, first layer | alpha1-beta0 | w^2; the box rule with bounds |
| integrated gradients | left Riemann sum, reference 0 | Gauss-Legendre; a baseline or background has to be named |
| smoothgrad | noise of deviation 1, whatever is asked for; sums over 64 | `noise_scale=`: its deviation in units of the input; without it 0.1 of each sample's range |
| `neuron_selection` | with `neuron_selection_mode="index"` only | that mode need not be named (under both conventions) |
| several inputs | a list of maps; integrated gradients, smoothgrad and the mode "index" fail | a list of maps, always (under both conventions) |
| unknown layers | the gradient, silently | refused by name, or differentiated by methods that only differentiate |
| deep Taylor of a logit that is not positive | a map of zeros | a map of zeros, with a warning (under both conventions) |
| hidden relevance | `reverse_keep_tensors`, private list | `ks.Explainer(model, "lrp").relevances(x)`, with a table of conservation |

Under `conventions="innvestigate"` BatchNormalization goes through that other map too, with a warning that its numbers say
nothing about the model. `benchmarks/peers` compares all of it with the real thing, on fifty networks without and two with
BatchNormalization.

## Every analyzer

"""


def from_innvestigate() -> str:
    """Return the page for people who come from iNNvestigate."""
    lines = [FROM_INNVESTIGATE.rstrip("\n"), ""]
    lines += ["| analyzer | own parameters | our method | its numbers start from | what is wrong or peculiar in them |"]
    lines += ["|---|---|---|---|---|"]
    for name, entry in ANALYZERS.items():
        parameters = ", ".join(f"`{key}={value!r}`" for key, value in entry.parameters.items()) or "-"
        lines.append(f"| `{name}` | {parameters} | {_ours(name)} | {entry.start} | {entry.differs or '-'} |")
    lines += [
        "",
        "All of them also take " + ", ".join(f"`{key}`" for key in COMMON) + "; of these only the first means",
    ]
    lines += ["something here. A `reverse_` flag that is set is refused with the way to get the same, and"]
    lines += ["`disable_model_checks=True` warns that what a method refuses stays refused.", ""]
    lines += ["## Rules of `lrp(rule=…)`", "", "| name there | here |", "|---|---|"]
    lines += [f"| `{name}` | {f'`ks.rules.{ours}`' if ours else ONLY_THERE} |" for name, (ours, _) in RULES.items()]
    lines += [f"| `{name}` | refused: `lrp.alpha_beta`, or a rule that holds alpha and beta |" for name in UNBOUND]
    lines += ["", PLACING, NOT_HERE]
    of_analyzers: dict[str, list[str]] = {}
    for name, instead in ATTRIBUTES.items():
        of_analyzers.setdefault(instead, []).append(f"`analyzer.{name}`")
    lines += [f"| {', '.join(names)} | {instead} |" for instead, names in of_analyzers.items()]
    lines += [f"| {what} | {instead} |" for what, instead in ELSEWHERE.items()]
    lines += [""]
    return "\n".join(lines)


ONLY_THERE = '- (the presets\' at BatchNormalization, under `conventions="innvestigate"`)'

PLACING = """Under both conventions `rule=` is one name, a list of pairs (condition, name) of which the first that holds gives a layer's
rule, or a list of names, one for each layer with a kernel in the order of `model.layers`: the last one is the first
layer's. Instead of a condition, a function of the Keras layer, a layer class or a glob over layer names will do.
`until_layer_idx` counts all of `model.layers`, as the code of 2.1.2 does (its docstring says otherwise): with an
`InputLayer`, and with layers that have no weights. `create_analyzer(…).method` shows the `ks.Composite` that comes of it.
Rules of your own or of `ks.rules` may stand there by object under `conventions="kerascope"`. `ZIgnoreBias` and
`EpsilonIgnoreBias` are of version 1, and so are `lrp.z_IB`, `lrp.epsilon_IB`, `deep_lift.wrapper` and `pattern.*`:
they are our methods, and refused under `conventions="innvestigate"`. `bn_layer_rule` and `bn_layer_fuse_mode` are taken
there only: ours folds a BatchNormalization, so it has no rule. `Bounded` has the bounds -1 and 1, under
`conventions="kerascope"` at the first layer only; other bounds are given as `input_layer_rule=(low, high)`.
`lrp.epsilon` and the presets want `epsilon` above 0 under `conventions="innvestigate"`, and alpha - beta is 1 always.

`postprocess` acts on each gradient, before a product and before a mean over steps or noise, under both conventions.
`neuron_selection_mode="all"` explains the sum of all outputs; ours of `deep_taylor`, `deep_lift.wrapper` and `pattern.*`
explain one output and refuse it. `neuron_selection` is a class, or one for each sample. A list of names and `until_layer_idx`
together are refused: there the second has no effect.

`pattern.net` and `pattern.attribution` are fitted by `fit(x, batch_size=32, verbose=0, pattern_type=…)`; `pattern_type` may
be given there or to `create_analyzer`: `"relu"` (`"relu.positive"` is the same) or `"linear"`. For negative patterns give
`patterns=ks.Patterns.fit(model, x, estimator={"*": "relu_negative"})`.
"""

NOT_HERE = """## Not here

| iNNvestigate | instead |
|---|---|"""

_NAMED = {
    "input_t_gradient": "`input_x_gradient`",
    "gradient.baseline": "`gradient`",
    "pattern.net": "`patternnet`",
    "pattern.attribution": "`pattern_attribution`",
    "lrp": "`ks.LRP(ks.Composite([…]))`",
    "lrp.z": "`lrp.zero`",
    "lrp.z_IB": '`lrp.zero`, `bias="ignore"`',
    "lrp.epsilon_IB": '`lrp.epsilon`, `bias="ignore"`',
    "deep_lift.wrapper": "`deeplift`, `deeplift.reveal_cancel`",
    "lrp.alpha_beta": '`ks.LRP("alpha_beta", alpha=…, beta=…)`',
    "lrp.alpha_2_beta_1": "`lrp.alpha2_beta1`",
    "lrp.alpha_1_beta_0": "`lrp.alpha1_beta0`",
    "lrp.alpha_2_beta_1_IB": '`lrp.alpha2_beta1`, `bias="ignore"`',
    "lrp.alpha_1_beta_0_IB": '`lrp.alpha1_beta0`, `bias="ignore"`',
    "lrp.z_plus_fast": "`lrp.z_plus`",
}


def _ours(name: str) -> str:
    """Return what a name is called here."""
    if "preset" in name:
        return "a composite: epsilon 0.1 on dense layers, alpha-beta on convolutions" + (
            ", flat up to that layer" if "until" in name else ", flat first" if "flat" in name else ""
        )
    return _NAMED.get(name, f"`{name}`")


PAGES = {"which-method.md": page, "from-innvestigate.md": from_innvestigate}


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check, stale = parser.parse_args().check, []
    for name, make in PAGES.items():
        path = DOCS / name
        if not check:
            path.write_text(make(), encoding="utf-8")
        elif not path.exists() or path.read_text("utf-8") != make():
            stale.append(name)
    for name in stale:
        print(f"docs/{name} is not what the code says: run scripts/make_method_docs.py.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
