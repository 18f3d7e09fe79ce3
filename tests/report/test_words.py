"""What is said about an explanation, and how its gap is graded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import kerascope as ks
from kerascope.registry import config_of
from kerascope.report.words import gap_grade, method_facts, sample_facts
from tests.report import cases

pytestmark = pytest.mark.backend_free


def said(facts):
    return {fact.term: fact.text.replace("\u00a0", " ") for fact in facts}


@pytest.mark.parametrize(
    ("gap", "must", "grade"),
    [
        (0.009, 1.0, "good"),
        (0.02, 4.0, "good"),
        (-0.009, 1.0, "good"),
        (0.01, 1.0, "fair"),
        (0.049, -1.0, "fair"),
        (0.05, 1.0, "poor"),
        (0.0, 0.0, "good"),
        (0.1, 0.0, "poor"),
        (float("nan"), 1.0, ""),
    ],
)
def test_grades(gap, must, grade):
    assert gap_grade(gap, must) == grade


def test_a_sample_in_words():
    e = cases.sensors(4)
    total = float(e.values[3].sum(dtype=np.float64))
    facts = said(sample_facts(e, 3, 0, total))
    assert facts["Class"] == "badminton (index 3); asked for: top class of each sample"
    assert facts["Explained number"].startswith("logit ")
    assert facts["Explained number"].endswith(", before the final softmax, which was taken off")
    assert facts["Baseline"] == "mean of 64 background samples; logit there 0.200"
    best = int(e.outputs[3].argmax())
    assert facts["Model's output"].startswith(f"{cases.ACTIVITIES[best]} 0.")
    assert facts["Model's output"].endswith(", and 1 more")
    assert "gap +0.00300" in facts["Completeness"]
    assert "what the map must sum to" in facts["Completeness"]


def test_the_gap_is_relative_to_what_the_map_must_sum_to():
    e = cases.sensors(1, gap=0.1)
    (fact,) = [f for f in sample_facts(e, 0, 0, 2.1) if f.term == "Completeness"]
    assert "gap +0.100, 5.0 % of what the map must sum to (+2.00)" in fact.text.replace("\u00a0", " ")
    assert fact.grade == "poor"
    attrs = cases.attrs(largest_sum=[40.0])
    (fact,) = [f for f in sample_facts(dataclasses.replace(e, attrs=attrs), 0, 0, 2.1) if f.term == "Completeness"]
    assert "0.2 % of the largest sum of absolute relevance at any operation (40.0)" in fact.text.replace("\u00a0", " ")


def test_nothing_promised_nothing_graded():
    e = cases.sensors(1, completeness_gap=np.full(1, np.nan), attrs=cases.attrs(baseline=None))
    facts = {f.term: f for f in sample_facts(e, 0, 0, 1.0)}
    assert facts["Completeness"].grade == ""
    assert "does not promise" in facts["Completeness"].text
    assert facts["Baseline"].text.startswith("none")
    assert "Absorbed relevance" not in facts
    assert "Standard error" not in facts


def test_absorbed_relevance_and_standard_errors_are_said():
    e = cases.sensors(1)
    e = dataclasses.replace(e, absorbed=0.25 * e.explained, standard_error=0.5 * e.values)
    facts = said(sample_facts(e, 0, 0, 1.0))
    assert "(25 % of the logit)" in facts["Absorbed relevance"]
    none = dataclasses.replace(e, absorbed=0.0 * e.explained)
    assert "Absorbed relevance" not in said(sample_facts(none, 0, 0, 1.0))
    rms = float(np.sqrt(np.mean(e.values**2)))
    assert facts["Standard error"] == (f"root mean square over cells {rms / 2:.3g}, beside {rms:.3g} for the map")


def test_a_base_method_in_words():
    e = cases.sensors(1)
    base = config_of(ks.LRP("epsilon"))
    e = dataclasses.replace(e, attrs={**e.attrs, "method": {"options": {"base": {"method": base}, "draws": 5}}})
    assert method_facts(e)[0].text.endswith("(base = lrp.epsilon (composite = epsilon, epsilon = 1e-06), draws = 5)")


def test_a_method_in_words():
    facts = said(method_facts(cases.sensors(1)))
    assert facts["Method"] == "integrated_gradients (steps = 64)"
    assert facts["Question"] == "How much did each input contribute to this output value?"
    assert facts["Paper"].startswith("Sundararajan et al. 2017")
    assert "fingerprint 3f9a1c0de4b2" in facts["Model"]
    assert facts["Folded"] == "bn_1 into conv_1"
    for part in (
        "seed 0",
        "float32",
        "kerascope 0.1.0",
        "keras 3.15.1",
        "jax 0.10.2",
        "NumPy 2.3.0",
        "Python 3.11.9",
    ):
        assert part in facts["Run"]
    attrs = cases.attrs(method_reason="a background was given")
    assert said(method_facts(cases.sensors(1, attrs=attrs)))["Chosen because"] == "a background was given"


def test_an_explanation_that_says_little_is_no_error():
    e = cases.sensors(1, attrs={}, method="mine")
    assert said(method_facts(e))["Method"] == "mine"
    assert said(method_facts(e))["Run"] == "not recorded"
    assert said(sample_facts(e, 0, 0, 1.0))["Class"] == "standing (index 0)"


def test_words_that_claim_too_much_are_not_used():
    e = cases.sensors(2)
    text = " ".join([*said(sample_facts(e, 0, 0, 1.0)).values(), *said(method_facts(e)).values()]).lower()
    for word in ("important", "looks at", "causal"):
        assert word not in text


def test_the_only_unit_of_an_output_has_one_name():
    e = cases.sensors(1)
    e = dataclasses.replace(e, outputs=np.array([[0.335]], "float32"), target=np.array([0]), class_names=None)
    facts = said(sample_facts(e, 0, 0, 1.0))
    assert facts["Class"].startswith("the output unit; ")
    assert facts["Model's output"] == "the output unit 0.335"
