"""Averages over noise in the input and in the weights: A2, C15, C16, standard errors, shared weights."""

from __future__ import annotations

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope import backend
from kerascope.methods.weight_noise import noisy_weights
from kerascope.model.fingerprint import weights_fingerprint
from kerascope.patterns.fit import fit_on
from kerascope.registry import as_method
from tests.reference.nets import cnn, linear, mlp, normalised, residual, samples, stack, weigh, weights_of
from tests.reference.run import Bench, differ, same

DRAWS = 7


def drawn_maps(bench: Bench, base: str, noise: float, draws: int, seed: int) -> np.ndarray:
    """Return the base's maps (draws, N, *S) of noisy copies, the noise as documented: one stream per draw."""
    x = bench.x
    scale = noise * np.ptp(x.reshape(len(x), -1), axis=1).reshape(-1, *(1,) * (x.ndim - 1))
    top = bench.logits().argmax(axis=1)
    maps = []
    for k in range(draws):
        e = np.random.default_rng((seed, k, 0)).normal(size=x.shape[1:])
        maps.append(bench.values(base, x + scale * e, target=top))
    return np.array(maps)


# In the input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3, 5.0])
def test_a2_on_a_linear_model(noise, float64):
    """SmoothGrad is w, SquareGrad w^2 and VarGrad 0 (to the bit), for every noise and seed."""
    bench = Bench(linear(), samples((5,)))
    w = np.tile(weights_of(bench.model.layers[-1])[0][:, 0], (3, 1))
    for seed in (0, 5):
        same(bench.values("smoothgrad", noise=noise, draws=DRAWS, seed=seed), w)
        same(bench.values("squaregrad", noise=noise, draws=DRAWS, seed=seed), w**2)
        assert np.all(bench.values("vargrad", noise=noise, draws=DRAWS, seed=seed) == 0)


@pytest.mark.parametrize("base", ["gradient", "lrp.epsilon", "guided_backprop"])
def test_the_three_are_moments_of_the_same_maps(base, float64):
    bench = Bench(cnn(), samples((6, 6, 2)))
    maps = drawn_maps(bench, base, 0.2, DRAWS, 3)
    options = {"base": as_method(base, {}), "draws": DRAWS, "noise": 0.2, "seed": 3, "target": None}
    smooth, square, var = (bench(name, **options) for name in ("smoothgrad", "squaregrad", "vargrad"))
    same(smooth.values, maps.mean(axis=0))
    same(square.values, (maps**2).mean(axis=0))
    same(var.values, maps.var(axis=0))
    same(smooth.standard_error, maps.std(axis=0, ddof=1) / np.sqrt(DRAWS))
    same(square.standard_error, (maps**2).std(axis=0, ddof=1) / np.sqrt(DRAWS))
    fourth = ((maps - maps.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt(np.maximum(fourth - maps.var(axis=0) ** 2, 0) / DRAWS)
    # A square root of a difference of fourth powers: half the digits.
    assert np.max(np.abs(var.standard_error - error)) < 1e-6 * np.max(error)


def test_c15_squares_are_mean_squared_plus_variance(float64):
    bench = Bench(mlp(), samples((5,)))
    options = {"draws": 9, "noise": 0.3, "seed": 1}
    smooth, square, var = (bench.values(name, **options) for name in ("smoothgrad", "squaregrad", "vargrad"))
    same(square, smooth**2 + var)
    assert np.any(var > 0)


def test_c15_one_draw_without_noise(float64):
    bench = Bench(mlp(), samples((5,)))
    gradient = bench.values("gradient")
    same(bench.values("smoothgrad", draws=1, noise=0.0), gradient)
    same(bench.values("squaregrad", draws=1, noise=0.0), gradient**2)
    assert np.all(bench.values("vargrad", draws=1, noise=0.0) == 0)


def test_the_error_of_a_variance_is_what_repetition_shows(float64):
    """Statistical, seed fixed: over 200 repetitions variances scatter as the standard error says."""
    bench = Bench(mlp("tanh"), samples((5,), 1))
    found = [bench("vargrad", draws=40, noise=0.3, seed=seed) for seed in range(200)]
    scatter = np.std([e.values for e in found], axis=0)
    stated = np.mean([e.standard_error for e in found], axis=0)
    assert np.all(np.abs(stated / scatter - 1) < 0.3)


# In the weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["gradient", "lrp.epsilon", "integrated_gradients"])
def test_c16_without_noise_it_is_the_base(base, float64):
    bench = Bench(cnn(), samples((6, 6, 2)), background=samples((6, 6, 2), 4, seed=9))
    method = as_method(base, {"steps": 4} if base == "integrated_gradients" else {})
    found = bench(ks.NoiseGrad(method, draws=2, weight_noise=0.0))
    same(found.values, bench.values(method))
    assert np.all(found.standard_error == 0)


def noisy_copy(draw: int) -> keras.Model:
    """Return the network with the weights of one draw: seed 4, factors of standard deviation 0.2."""
    copy = mlp()
    for place, variable in enumerate(copy.weights):
        factors = np.random.default_rng((4, draw, place)).normal(1.0, 0.2, tuple(variable.shape))
        variable.assign(keras.ops.convert_to_numpy(variable) * factors)
    return copy


def test_noisegrad_is_the_mean_over_noisy_networks(float64):
    """Each draw by hand: the weights of a copy of the model multiplied by the documented factors."""
    model, x = mlp(), samples((5,))
    bench = Bench(model, x)
    maps = []
    for k in range(3):
        copy = noisy_copy(k)
        maps.append(Bench(copy, x).values("gradient"))
    found = bench("noisegrad", draws=3, weight_noise=0.2, seed=4)
    same(found.values, np.mean(maps, axis=0))
    same(found.standard_error, np.std(maps, axis=0, ddof=1) / np.sqrt(3))
    differ(found.values, bench.values("gradient"))


def patterns_of(bench):
    """Return patterns that were fitted to a few more samples."""
    view = bench.session.view
    x = samples(bench.x.shape[1:], 40, seed=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)  # a neuron that never fires is not this test's business
        return fit_on(view, [x], batch_size=40, compile=False)


BASED_ON_PATTERNS = [ks.PatternNet, ks.PatternAttribution]


@pytest.mark.parametrize("base", BASED_ON_PATTERNS)
@pytest.mark.parametrize("make", [mlp, cnn, residual, lambda: normalised(order="after")])
def test_c16_of_patterns(base, make, float64):
    """Without noise the base's map; with little noise nearly so, also where a BatchNormalization is folded in."""
    model = make()
    bench = Bench(model, samples(model.inputs[0].shape[1:]))
    method = base(patterns=patterns_of(bench))
    plain = bench.values(method)
    same(bench.values(ks.NoiseGrad(method, draws=2, weight_noise=0.0)), plain)
    same(bench.values(ks.NoiseGrad(method, draws=2, weight_noise=1e-6)), plain, 1e-4)
    inner = ks.SmoothGrad(method, draws=1, noise=0.0)
    same(bench.values(ks.NoiseGrad(ks.NoiseGrad(inner, 1, 1e-6), 1, 1e-6)), plain, 1e-4)


@pytest.mark.parametrize("base", BASED_ON_PATTERNS)
def test_noise_in_the_weights_leaves_patterns_alone(base, float64):
    """Each draw by hand: a copy of the model with noisy weights, walked through the patterns of the true one."""
    model, x = mlp(), samples((5,))
    bench = Bench(model, x)
    patterns = patterns_of(bench)
    maps = []
    for k in range(3):
        copy = noisy_copy(k)
        renamed = tuple(
            dataclasses.replace(held, name=layer.name, kernel_norm=float(np.linalg.norm(weights_of(layer)[0])))
            for held, layer in zip(patterns.layers, copy.layers, strict=True)
        )
        moved = dataclasses.replace(patterns, fingerprint=weights_fingerprint(copy), layers=renamed)
        maps.append(Bench(copy, x).values(base(patterns=moved)))
    found = bench.values(ks.NoiseGrad(base(patterns=patterns), draws=3, weight_noise=0.2), seed=4)
    same(found, np.mean(maps, axis=0))
    differ(found, bench.values(base(patterns=patterns)))


def test_noise_hides_no_patterns_that_do_not_fit(float64):
    """What is refused without noise is refused with it: another model's patterns, a kernel that they do not know."""
    model, x = normalised(), samples((6, 6, 2))
    bench = Bench(model, x)
    patterns = patterns_of(bench)
    noisy = ks.NoiseGrad(ks.PatternNet(patterns=patterns), draws=1)
    with pytest.raises(ks.IncompatibleMethodError, match="BatchNormalization folded in"):
        bench.values(noisy, target=ks.Neuron(model.layers[0].name, (2, 2, 1)))
    behind = ks.Neuron(model.layers[1].name, (2, 2, 1))
    assert np.any(bench.values(noisy, target=behind))
    with pytest.raises(ks.StaleModelError, match="fitted to another model"):
        Bench(normalised(seed=4), x).values(noisy)


def test_the_class_is_settled_on_the_true_network(float64):
    bench = Bench(mlp(), samples((5,), 8))
    top = bench.logits().argmax(axis=1)
    options = {"draws": 3, "weight_noise": 1.0}
    same(bench.values("noisegrad", target=None, **options), bench.values("noisegrad", target=top, **options))


def test_layers_that_share_weights_share_their_noise(float64):
    inputs = layers.Input((4,))
    encode = layers.Dense(4, activation="relu")
    model = weigh(keras.Model(inputs, layers.Dense(2)(encode(encode(inputs)))))
    bench = Bench(model, samples((4,)))
    weights = bench.session.view.traced.weights
    noisy = [backend.to_numpy(tensor) for tensor in noisy_weights(bench.session.view.traced, 0.3, (0, 0))]
    assert np.array_equal(noisy[0], noisy[2])
    assert np.array_equal(noisy[1], noisy[3])
    assert not np.array_equal(noisy[0], backend.to_numpy(weights[0]))


def test_a_layer_at_the_end_of_a_submodel_keeps_its_noise_outside(float64):
    """The layer's name stands for it, not what its first call returns: that tensor is the submodel's too."""
    encode, given, inputs = layers.Dense(4, activation="relu"), layers.Input((4,)), layers.Input((4,))
    inner = keras.Model(given, encode(given))
    bench = Bench(weigh(keras.Model(inputs, layers.Dense(2)(encode(inner(inputs))))), samples((4,)))
    noisy = [backend.to_numpy(tensor) for tensor in noisy_weights(bench.session.view.traced, 0.3, (0, 0))]
    assert np.array_equal(noisy[0], noisy[2])
    assert np.array_equal(noisy[1], noisy[3])


def test_layers_with_equal_weights_have_noise_of_their_own(float64):
    model = weigh(stack((4,), layers.Dense(4, activation="relu"), layers.Dense(4, activation="relu")))
    model.layers[1].set_weights(model.layers[0].get_weights())
    bench = Bench(model, samples((4,)))
    noisy = [backend.to_numpy(tensor) for tensor in noisy_weights(bench.session.view.traced, 0.3, (0, 0))]
    assert not np.any(noisy[0] == noisy[2])


@pytest.mark.parametrize("target", [ks.Neuron("inside", (2,)), ks.Contrast(0, 1), [[0, 1], [1, 2], [2, 0]]])
def test_every_target_and_folded_networks(target, float64):
    """Other targets, and a network with BatchNormalization: without noise the base's map again."""
    if isinstance(target, ks.Neuron):
        model = stack((5,), layers.Dense(4, activation="relu", name="inside"), layers.Dense(3))
        bench = Bench(model, samples((5,)))
    else:
        bench = Bench(normalised(order="after"), samples((6, 6, 2)))
    same(bench.values("noisegrad", target=target, draws=1, weight_noise=0.0), bench.values("gradient", target=target))
    noisy = bench.values("noisegrad", target=target, draws=2, weight_noise=0.1)
    assert np.all(np.isfinite(noisy))


def test_the_model_keeps_its_weights(float64):
    model = mlp()
    before = [keras.ops.convert_to_numpy(w).tobytes() for w in model.weights]
    Bench(model, samples((5,))).values("noisegrad", draws=2)
    assert before == [keras.ops.convert_to_numpy(w).tobytes() for w in model.weights]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ks.SquareGrad("gradient"), "base must be a method object"),
        (lambda: ks.VarGrad(draws=0), "draws must be a whole number of at least 1"),
        (lambda: ks.NoiseGrad(weight_noise=-1), "weight_noise must be at least 0"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ks.BadInputError, match=message):
        make()


# Around a method that draws itself ------------------------------------------------------------


def seed_of(seed: int, draw: int) -> int:
    return int(np.random.SeedSequence((seed, draw)).generate_state(1)[0])


@pytest.mark.parametrize("size", [1, 2, 32])
def test_each_draw_gives_a_stochastic_base_numbers_of_its_own(size, float64):
    """SmoothGrad of SmoothGrad: the gradient at x + e_k + e_kj, e_kj from the seed of draw k, in any batch."""
    bench = Bench(mlp(), samples((5,)))
    scale, top = 0.3 * np.ptp(bench.x, axis=1)[:, None], bench.logits().argmax(axis=1)
    maps = []
    for k in range(4):
        outer = bench.x + scale * np.random.default_rng((7, k, 0)).normal(size=5)
        # The inner noise is scaled to the range of the noisy copy.
        within = 0.3 * np.ptp(outer, axis=1)[:, None]
        for j in range(3):
            inner = outer + within * np.random.default_rng((seed_of(7, k), j, 0)).normal(size=5)
            maps.append(bench.values("gradient", inner, target=top))
    base = ks.SmoothGrad(draws=3, noise=0.3)
    found = ks.explain(bench.model, bench.x, ks.SmoothGrad(base, draws=4, noise=0.3), seed=7, batch_size=size)
    same(found.values, np.mean(maps, axis=0))


@pytest.mark.parametrize(
    "method",
    [
        ks.SmoothGrad(ks.SmoothGrad(draws=2, noise=0.3), draws=20, noise=0.1),
        ks.NoiseGrad(ks.SmoothGrad(draws=2, noise=0.3), draws=20, weight_noise=0.1),
        ks.SmoothGrad(ks.NoiseGrad(draws=2, weight_noise=0.3), draws=20, noise=0.1),
    ],
    ids=["noise in noise", "noise in weights", "weights in noise"],
)
def test_the_standard_error_holds_around_a_stochastic_base(method, float64):
    """Over 24 seeds the maps spread as far as the standard error says: to a factor of 1.5, where it was 3 to 8."""
    model, x = mlp(), samples((5,))
    runs = [ks.explain(model, x, method, target=0, seed=seed, batch_size=64) for seed in range(24)]
    spread = np.std([e.values for e in runs], axis=0, ddof=1)
    told = np.sqrt(np.mean([np.square(e.standard_error) for e in runs], axis=0))
    ratio = np.sqrt(np.mean(spread**2) / np.mean(told**2))
    assert 1 / 1.5 < ratio < 1.5
