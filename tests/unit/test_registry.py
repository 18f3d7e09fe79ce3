"""The table of methods, their names and options, and the plain data they are rebuilt from."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

import kerascope as ks
from kerascope.registry import METHODS, as_method, config_of, method_from_config, name_of, recommended

OF_THIS_RELEASE = [
    "gradient",
    "saliency",
    "smoothgrad",
    "squaregrad",
    "vargrad",
    "noisegrad",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
    "deeplift",
    "deeplift.reveal_cancel",
    "deeplift_shap",
    "guided_backprop",
    "deconvnet",
    "occlusion",
    "lime",
    "kernel_shap",
    "shapley_sampling",
    "shapley_exact",
    "lrp",
    "lrp.zero",
    "lrp.epsilon",
    "lrp.gamma",
    "lrp.z_plus",
    "lrp.alpha1_beta0",
    "lrp.alpha2_beta1",
    "lrp.flat",
    "lrp.w_square",
    "lrp.z_box",
    "lrp.epsilon_plus",
    "lrp.epsilon_plus_flat",
    "lrp.epsilon_alpha2_beta1",
    "lrp.epsilon_alpha2_beta1_flat",
    "lrp.epsilon_gamma_box",
    "lrp.excitation_backprop",
    "deep_taylor",
    "deep_taylor.bounded",
    "patternnet",
    "pattern_attribution",
    "cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "xgrad_cam",
    "hires_cam",
    "layer_cam",
    "score_cam",
    "ablation_cam",
    "eigen_cam",
    "random",
    "input",
    "edges",
]
FAMILIES = {
    "function": "gradient saliency smoothgrad squaregrad vargrad noisegrad",
    "signal": "deconvnet guided_backprop patternnet",
    "localisation": "cam grad_cam grad_cam_plus_plus xgrad_cam hires_cam layer_cam score_cam ablation_cam eigen_cam",
    "perturbation": "occlusion lime kernel_shap shapley_sampling shapley_exact",
    "control": "random input edges",
}


def test_every_method_of_this_release_has_its_row():
    assert sorted(METHODS) == sorted(OF_THIS_RELEASE)
    table = ks.methods()
    assert list(table.columns) == ["name", "family", "question", "paper", "needs", "promises", "axioms"]
    assert list(table["name"]) == list(METHODS)
    assert table["question"].str.len().min() > 20
    assert table["paper"].str.contains(r"\d{4}").all()


@pytest.mark.parametrize("name", OF_THIS_RELEASE)
def test_families(name):
    family = next((family for family, names in FAMILIES.items() if name in names.split()), "attribution")
    assert METHODS[name].family == family


@pytest.mark.parametrize("name", OF_THIS_RELEASE)
def test_methods_are_frozen_values_that_know_their_name(name):
    method = METHODS[name]
    assert name_of(method) == name
    assert dataclasses.replace(method) == method
    assert as_method(name, {}) == method
    assert as_method(method, {}) is method
    assert method_from_config(json.loads(json.dumps(config_of(method)))) == method
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1


def test_a_varied_method_keeps_the_name_of_its_row():
    assert name_of(ks.LRP("epsilon", epsilon=0.1)) == "lrp.epsilon"
    assert name_of(ks.DeepTaylor()) == "deep_taylor"
    assert name_of(ks.SmoothGrad(ks.LRP())) == "smoothgrad"
    assert name_of(ks.LRP(ks.Composite([("*", ks.rules.Flat())]))) == "LRP"


ROUND_TRIPS = [
    ks.IntegratedGradients(steps=7, baseline=0.5),
    ks.IntegratedGradients(baseline=((1.0, 2.0), (3.0, 4.0))),
    ks.Occlusion(groups=("blocks", (2, 3)), fill="mean"),
    ks.Occlusion(window=(2, 2), stride=1),
    ks.LRP("z_box", low=-1.0, high=2.0),
    ks.LRP("alpha_beta", alpha=3.0, beta=2.0),
    ks.SmoothGrad(ks.LRP("epsilon", epsilon=0.1), draws=3),
    ks.SmoothGrad(ks.SmoothGrad(ks.Saliency(), draws=2), draws=3),
    ks.GradCAM(layer="conv", relu=False),
    ks.GuidedBackprop(start="logit"),
]


@pytest.mark.parametrize("method", ROUND_TRIPS, ids=repr)
def test_methods_come_back_from_plain_data(method):
    config = json.loads(json.dumps(config_of(method)))
    assert method_from_config(config) == method
    assert set(config) == {"name", "class", "options", "family", "question", "paper", "promise"}


def test_arrays_among_the_options():
    low, high = np.array([[0.0, 1.0]]), np.array([[2.0, 3.0]])
    again = method_from_config(json.loads(json.dumps(config_of(ks.LRP("z_box", low=low, high=high)))))
    np.testing.assert_array_equal(again.low, low)
    np.testing.assert_array_equal(again.high, high)
    large = config_of(ks.IntegratedGradients(baseline=np.zeros((300, 300))))
    assert large["options"]["baseline"] == {"text": "array of shape (300, 300)"}
    with pytest.raises(ks.UnknownNameError, match="saved as text only: 'array of shape"):
        method_from_config(large)


def test_what_cannot_be_rebuilt_says_so():
    composite = config_of(ks.LRP(ks.Composite([("*", ks.rules.Flat())])))
    assert "Flat" in composite["options"]["composite"]["text"]
    with pytest.raises(ks.UnknownNameError, match="saved as text only"):
        method_from_config(composite)

    class Mine(ks.Gradient):
        family: ClassVar[str] = "function"

    with pytest.raises(ks.UnknownNameError, match="Unknown method 'Mine'"):
        method_from_config(config_of(Mine()))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ks.UnknownNameError, match=r"Unknown method 'lrp\.epsilom'\. Did you mean 'lrp\.epsilon'"):
        as_method("lrp.epsilom", {})
    with pytest.raises(ks.UnknownNameError, match=r"Unknown method 'nothing like it'\. Known: ablation_cam, cam, "):
        as_method("nothing like it", {})
    with pytest.raises(ks.UnknownNameError, match=r"Unknown option of smoothgrad 'draw'\. Did you mean 'draws'\?"):
        as_method("smoothgrad", {"draw": 3})
    with pytest.raises(ks.UnknownNameError, match=r"Unknown option of lrp\.zero 'composite'"):
        as_method("lrp.zero", {"composite": "flat"})
    assert as_method("lrp", {"composite": "flat"}) == METHODS["lrp.flat"]


@pytest.mark.parametrize("method", [None, 3, ks.LRP, b"lrp"])
def test_what_is_neither_name_nor_method(method):
    with pytest.raises(ks.BadInputError, match=r"a name or a method object such as ks\.LRP\(\); got"):
        as_method(method, {})


BAD_OPTIONS = [
    ("integrated_gradients", {"steps": "many"}),
    ("integrated_gradients", {"steps": 2.5}),
    ("expected_gradients", {"draws": "many"}),
    ("smoothgrad", {"draws": "many"}),
    ("smoothgrad", {"noise": "loud"}),
    ("smoothgrad", {"base": 3}),
    ("lrp.epsilon", {"epsilon": "small"}),
    ("lrp.gamma", {"gamma": -1}),
    ("occlusion", {"fills": "few"}),
    ("guided_backprop", {"start": "two"}),
    ("noisegrad", {"draws": 2.5}),
    ("noisegrad", {"weight_noise": float("nan")}),
    ("grad_cam", {"upsample": "nearest"}),
]


def test_one_method_at_a_time():
    with pytest.raises(ks.BadInputError, match=r"One method at a time here; got 2\. ks\.explain.*takes a list"):
        as_method(["lrp", "gradient"], {})


def test_a_base_may_be_named_beside_a_name():
    assert as_method("smoothgrad", {"base": "lrp.epsilon", "draws": 3}) == ks.SmoothGrad(ks.LRP("epsilon"), draws=3)
    with pytest.raises(ks.UnknownNameError, match=r"Unknown method 'lpr'\. Did you mean 'lrp'"):
        as_method("noisegrad", {"base": "lpr"})


@pytest.mark.parametrize(
    ("name", "paper", "needs"),
    [
        ("lrp.z_box", "Montavon et al. 2017", "bounds: low, high"),
        ("lrp.epsilon_gamma_box", "Montavon et al. 2019", "bounds: low, high"),
        ("deep_taylor.bounded", "Montavon et al. 2017", "ReLU networks; the input's bounds: low, high"),
        ("lrp.excitation_backprop", "Zhang et al. 2018", "a rule for every operation"),
        ("lrp.flat", "Lapuschkin et al. 2019", "a rule for every operation"),
        ("lrp.epsilon", "Bach et al. 2015", "a rule for every operation"),
    ],
)
def test_a_composite_states_its_own_facts(name, paper, needs):
    (row,) = ks.methods().set_index("name").loc[[name]].to_dict("records")
    assert row["paper"].startswith(paper)
    assert row["needs"].endswith(needs)
    assert ks.LRP.needs == "a rule for every operation"


@pytest.mark.parametrize(("name", "options"), BAD_OPTIONS, ids=str)
def test_bad_values_of_options_are_named(name, options):
    with pytest.raises(ks.BadInputError) as caught:
        as_method(name, options)
    (option,) = options
    assert option in str(caught.value)
    assert str(options[option]).strip("'") in str(caught.value)


def test_an_option_the_composite_does_not_read_is_refused():
    with pytest.raises(ks.BadInputError, match="'epsilon' has no use for gamma=; it reads epsilon, bias, start"):
        as_method("lrp.epsilon", {"gamma": 0.5})


def test_the_recommended_method():
    assert recommended(background=False)[0] == "lrp"
    assert recommended(background=True)[0] == "integrated_gradients"


def test_a_record_lists_the_options_that_are_read():
    assert set(config_of(METHODS["lrp.z_plus"])["options"]) == {"composite", "bias", "start"}
    assert set(config_of(METHODS["lrp.epsilon"])["options"]) == {"composite", "bias", "start", "epsilon"}
    assert method_from_config(config_of(METHODS["lrp.gamma"])) == METHODS["lrp.gamma"]
