"""Every registered method on every case model: it keeps the contracts, or refuses as expected, naming the layer."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope.patterns.fit import fit_on
from kerascope.registry import METHODS
from kerascope.testing import Bench, check_method
from kerascope.testing.bench import convolutional
from kerascope.testing.methods import check_on
from tests.cases import Case, by_name, cases
from tests.conftest import narrowing, numeric_state, set_numeric_state

# Methods ------------------------------------------------------------------------------

BOUNDS = {"low": -8.0, "high": 8.0}
OPTIONS = {
    "smoothgrad": {"draws": 2},
    "squaregrad": {"draws": 2},
    "vargrad": {"draws": 2},
    "noisegrad": {"draws": 2},
    "score_cam": {"channels": 2},
    "integrated_gradients": {"steps": 10},
    "expected_gradients": {"draws": 12},
    "occlusion": {"window": 4, "fills": 1},
    "lime": {"groups": "rows", "draws": 12, "fills": 1, "ridge": 0.1},
    "kernel_shap": {"groups": "rows", "draws": 10, "fills": 2},
    "shapley_sampling": {"groups": "rows", "draws": 2, "fills": 2},
    "shapley_exact": {"groups": "rows", "fills": 1},
    "deep_taylor.bounded": BOUNDS,
    "lrp.z_box": BOUNDS,
    "lrp.epsilon_gamma_box": BOUNDS,
}
"""Where the defaults would take long, or bounds are needed."""
GAP = {"expected_gradients": 0.8, "integrated_gradients": 0.5}
"""So few draws and steps leave wide gaps; that the gap is counted from the right number is checked to 1e-3."""


PATTERNS = ["patternnet", "pattern_attribution"]


def method_of(name: str, bench: Bench | None = None) -> ks.Method:
    """Return a method with its options; patterns are fitted to the bench's model, where they can be."""
    options = dict(OPTIONS.get(name, {}))
    if name in PATTERNS:
        options["patterns"] = patterns_of(bench or convolutional(keras.config.floatx()))
    return dataclasses.replace(METHODS[name], **options)


@functools.lru_cache(maxsize=2)
def patterns_of(bench: Bench) -> ks.Patterns | None:
    view = bench.session.view
    with contextlib.suppress(ks.IncompatibleMethodError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)  # few samples leave neurons that never fire
        return fit_on(view, bench.session.background or bench.arrays, batch_size=4, compile=False)
    return None


# Expected refusals --------------------------------------------------------------------

LRP = [name for name in METHODS if name.startswith("lrp")]
DEEPLIFT = ["deeplift", "deeplift.reveal_cancel", "deeplift_shap"]
RELU_ONLY = ["guided_backprop", "deconvnet", "deep_taylor", "deep_taylor.bounded"]
PERTURBING = [name for name in METHODS if METHODS[name].family == "perturbation"]
CAMS = [name for name in METHODS if METHODS[name].family == "localisation"]
NOISY = ["smoothgrad", "squaregrad", "vargrad", "noisegrad"]
GRADIENTS = ["gradient", "saliency", *NOISY, "input_x_gradient", "integrated_gradients", "expected_gradients"]

FLAT = [
    "activation_layers",
    "activations_kinked",
    "activations_smooth",
    "dense",
    "dict_of_heads",
    "einsum_dense",
    "linear",
    "log_softmax",
    "many_sigmoids",
    "norm_after_dense",
    "one_sigmoid",
    "operations_kinked",
    "operations_rearranged",
    "operations_relu",
    "operations_smooth",
    "rearranged",
    "several_heads",
    "shared_layer",
    "softmax_activation_layer",
    "softmax_in_nested_head",
    "softmax_inside",
    "softmax_layer",
    "softmax_operation",
    "time_distributed",
]
"""Cases in which no tensor has the spatial axes of the input."""
AVERAGED = [
    "attention",
    "built_late",
    "channels_first_1d",
    "cnn",
    "cnn_bias_free",
    "cnn_smooth",
    "residual",
    "residual_preactivated",
    "softmax_after_reshape",
    "softmax_before_reshape",
    "squeeze_and_excite",
    "subclassed",
]
"""Cases that end in a global average and one dense layer."""


@dataclass(frozen=True)
class Refusal:
    """Which methods refuse which cases, with what words, and why that is right."""

    methods: Collection[str]
    of: Callable[[Case], bool]
    error: type[ks.KerascopeError]
    words: str
    reason: str


REFUSALS = [
    Refusal(
        LRP,
        lambda case: "no_rule" in case.traits,
        ks.UnsupportedLayerError,
        r"^LRP has no rule for '[^']+' \(\w+\)(\. Use a method that only differentiates|, and .* whole numbers)",
        "an operation that is known by its derivative alone: recurrence, attention, other normalisations, raw code",
    ),
    Refusal(
        DEEPLIFT,
        lambda case: "no_rule" in case.traits and not ("integer_input" in case.traits or case.name == "softmax_inside"),
        ks.UnsupportedLayerError,
        r"^DeepLIFT has no rule for '[^']+' \(\w+\)\. Use a method that only differentiates",
        "an operation that is known by its derivative alone; a softmax is taken apart",
    ),
    Refusal(
        PATTERNS,
        lambda case: "no_rule" in case.traits or "gate" in case.traits,
        ks.IncompatibleMethodError,
        r"^Pattern\w+ is defined for kernels, ReLUs, pooling and sums; '[^']+' \(\w+\) is none",
        "products and operations that are known by their derivative alone have no neurons and no pattern",
    ),
    Refusal(
        RELU_ONLY,
        lambda case: "relu_only" not in case.traits,
        ks.IncompatibleMethodError,
        r"is defined for ReLU networks; '[^']+' is \w+",
        "the rule is defined for ReLU; other activations, ReLU6 among them, and products bend the signal otherwise",
    ),
    Refusal(
        CAMS,
        lambda case: "multi_input" in case.traits,
        ks.IncompatibleMethodError,
        "models with one input",
        "a map at one layer cannot be laid over two inputs",
    ),
    Refusal(
        CAMS,
        lambda case: case.name in FLAT,
        ks.IncompatibleMethodError,
        "No layer of this model has spatial axes like those of its input",
        "there is no layer whose places are those of the input",
    ),
    Refusal(
        ["score_cam"],
        lambda case: "integer_input" in case.traits,
        ks.IncompatibleMethodError,
        r"Input '[^']+' takes whole numbers \(int32\): Score-CAM multiplies",
        "a masked token is another token",
    ),
    Refusal(
        ["cam"],
        lambda case: case.name not in AVERAGED,
        ks.IncompatibleMethodError,
        r"cam needs a global average pooling and one dense layer after '[^']+'",
        "CAM reads the weights of the one layer behind the average",
    ),
    Refusal(
        PERTURBING,
        lambda case: "multi_input" in case.traits,
        ks.IncompatibleMethodError,
        "works on models with one input; this one has 2",
        "which cells of two inputs go together is not defined",
    ),
    Refusal(
        [*GRADIENTS, *DEEPLIFT],
        lambda case: "integer_input" in case.traits,
        ks.IncompatibleMethodError,
        r"Input '[^']+' takes whole numbers \(int32\)",
        "there is no derivative by a whole number",
    ),
]


def refusal_of(case: Case, name: str) -> Refusal | None:
    return next((r for r in REFUSALS if name in r.methods and r.of(case)), None)


# Benches ------------------------------------------------------------------------------

FLOAT32 = {
    "operations_matrix": ("jax", "tensorflow", "torch"),
    "operations_conv": ("jax", "tensorflow", "torch"),
    "conv3d": ("tensorflow",),
}
"""Models that run in float32 only: they hold float32 constants, or the backend lacks an operation."""
TOLERANCE = {("tensorflow", "upsampled_smoothly"): 1e-4}
"""TensorFlow interpolates in float32."""
CLOSE = dict.fromkeys(DEEPLIFT, 1e-8)
"""Equal calls; sums are held to a tenth of that, so to 1e-9 of the largest: identities B4 to B8 on every case model."""

SLOW = {
    ("tensorflow", name)
    for name in ("conv_strided_dilated_grouped", "norm_before_padded_conv", "norm_after_other_convs")
}
"""Keras compiles grouped and dilated convolutions on TensorFlow anew at every call: one run each."""


@pytest.fixture(scope="module", autouse=True)
def _in_float64() -> Iterator[None]:
    """Equal calls then agree to seven digits, also where a rule divides by something small."""
    before, table = numeric_state(), narrowing()
    kept = dict(table)
    table["float64"] = "float64"
    set_numeric_state({**before, "floatx": "float64", "policy": "float64", "x64": True})
    yield
    bench_of.cache_clear()
    set_numeric_state(before)
    table.update(kept)


def _forget_compiled() -> None:
    """Give back what JAX compiled for earlier cases: a megabyte for each of thousands of operations."""
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@functools.lru_cache(maxsize=2)
def bench_of(name: str) -> Bench:
    case, state = by_name(name), numeric_state()
    _forget_compiled()
    if keras.backend.backend() in FLOAT32.get(name, ()):
        set_numeric_state({**state, "floatx": "float32", "policy": "float32"})
    try:
        return Bench.of(case.build(), case.sample(3), case.sample(4, seed=5))
    finally:
        set_numeric_state(state)


def _is_one_run(backend: str, case: Case, name: str) -> bool:
    """Whether a pair is run once instead of six times: two thirds of them on JAX, which compiles every operation.

    The contracts are about code that all backends share; what is JAX's own shows in one run.
    """
    return backend == "jax" and zlib.crc32(f"{case.name} {name}".encode()) % 3 > 0


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_contracts(case: Case, name: str, backend: str) -> None:
    bench, refusal = bench_of(case.name), refusal_of(case, name)
    tolerance = TOLERANCE.get((backend, case.name))
    if tolerance is None and "half" not in case.traits and backend not in FLOAT32.get(case.name, ()):
        tolerance = CLOSE.get(name)
    if refusal is None:
        thorough = (backend, case.name) not in SLOW and not _is_one_run(backend, case, name)
        check_on(bench, method_of(name, bench), tolerance=tolerance, gap=GAP.get(name, 0.05), thorough=thorough)
        return
    with pytest.raises(refusal.error, match=refusal.words):
        check_on(bench, method_of(name, bench))


def test_every_refusal_is_of_use() -> None:
    pairs = [(case, name) for case in cases() for name in METHODS]
    for refusal in REFUSALS:
        assert any(refusal_of(*pair) is refusal for pair in pairs), refusal.reason
    assert {case.name for case in cases()} >= set(FLAT)


# What does not depend on the model, and compiled runs ---------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_facts_round_trip_linear_model_and_compiled_run(name: str) -> None:
    method, checked = method_of(name), set(check_method(method_of(name), tolerance=1e-6, gap=0.4))
    kept = {"facts", "compiled", "finite", "nothing changed"} | ({"round trip"} if name not in PATTERNS else set())
    assert kept <= checked  # fitted patterns stand in a record by their fingerprint alone
    assert ("linear model" in checked) == method.exact_on_linear
    assert ("completeness" in checked) == bool(method.promise)


def test_the_linear_identity_is_promised_by_those_that_keep_it() -> None:
    promising = {name for name in METHODS if METHODS[name].exact_on_linear}
    assert promising == {
        "input_x_gradient",
        "integrated_gradients",
        "expected_gradients",
        "deeplift",
        "deeplift.reveal_cancel",
        "deeplift_shap",
        "kernel_shap",
        "shapley_sampling",
        "shapley_exact",
        "lrp.zero",
        "lrp.epsilon",
    }


SMOKE = ["dense", "cnn", "residual"]


@pytest.mark.parametrize("name", METHODS)
def test_compiled_smoke(name: str) -> None:
    """Compiled, as users run it: on a real small model, a batch and a smaller one."""
    bench = bench_of("cnn" if refusal_of(by_name("cnn"), name) is None else "dense")
    session = dataclasses.replace(bench.session, compile=True, _functions={}, _sizes={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)
        whole, one = (ks.Explainer.on(session, method_of(name, bench))(bench.x[:count]) for count in (3, 1))
    assert np.all(np.isfinite(whole.values))
    np.testing.assert_allclose(one.values, whole.values[:1], rtol=1e-6, atol=1e-9)
