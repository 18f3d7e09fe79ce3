# ruff: noqa: E501 - rows of tables cannot be broken
"""Write docs/which-method.md: which method answers which question, from what the methods say of themselves.

Usage: make_method_docs.py [--check]

With --check nothing is written; the exit status is 1 if the page is not what the methods say.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

from kerascope.methods.base import AXIOMS
from kerascope.registry import METHODS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "which-method.md"

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


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == page():
        return 0
    print(f"{PAGE} is not what the methods say: run scripts/make_method_docs.py.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
