"""Numbers and phrases as people read them."""

from __future__ import annotations

import numpy as np
import pytest

from kerascope.view.text import headline, number, percent, sample_label, single, target_phrase
from tests.report.cases import ACTIVITIES, planted, sensors, several_targets

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4.2, "4.20"),
        (-2.3456, "−2.35"),
        (31.26, "31.3"),
        (312.6, "313"),
        (98765.4, "98765"),
        (0.00123, "0.00123"),
        (1.23e-5, "1.23 × 10⁻⁵"),
        (-4.5e7, "−4.50 × 10⁷"),
        (float("nan"), "not a number"),
        (float("-inf"), "−infinite"),
    ],
)
def test_numbers(value, text):
    assert number(value).replace("\u00a0", " ") == text


def test_signs():
    assert number(2.0, signed=True) == "+2.00"
    assert number(-2.0, signed=True) == "−2.00"
    assert number(0.0, signed=True) == "0"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.314, "31 %"), (0.0432, "4.3 %"), (0.0004, "< 0.1 %"), (0.0, "0 %"), (1.5, "150 %"), (-0.2, "−20 %")],
)
def test_shares(share, text):
    assert percent(share).replace("\u00a0", " ") == text
    assert percent(float("nan")) == "not available"


def test_headline_names_sample_class_and_number():
    e = sensors(3)
    value = number(e.explained[2])
    assert headline(e, 2, 0, sample_label(e, 2)) == f"Sample 2: class walking, logit {value}"
    assert target_phrase(planted()[0], 1, 0) == "class 1"


def test_headline_names_targets_that_are_no_class_and_samples_with_names():
    e = sensors(
        2,
        target="Neuron('conv', 3)",
        attrs={
            "target": {"kind": "neuron", "text": "unit 3 of conv"},
            "output": {"explained": "output value"},
        },
    )
    assert headline(e, 0, 0, "Patient 7").startswith("Patient 7: unit 3 of conv, output value ")
    assert sample_label(sensors(2, coords={"sample": np.array(["a", "b"])}), 1) == "Sample b"


def test_one_target_of_several():
    e = several_targets(3)
    one = single(e, 2, 1)
    np.testing.assert_array_equal(one.values[0], e.values[2, 1])
    assert one.explained.tolist() == [e.explained[2, 1]]
    assert one.target_name(0) == ACTIVITIES[1]
    assert single(sensors(3), 1).explained.shape == (1,)
