"""The contracts of methods."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from kerascope import backend, registry
from kerascope.errors import IncompatibleMethodError
from kerascope.explain import Explainer
from kerascope.explanation import Explanation
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.target import Class, Target, TopClass
from kerascope.testing.bench import BATCH, Bench, ContractError, convolutional, linear, model_state, rows_of

FAMILIES = ("function", "signal", "attribution", "localisation", "perturbation", "control")
_TOLERANCE = {"float64": 1e-7, "float32": 1e-3}
_SEED, _OTHER_SEEDS = 3, (4, 5, 6, 7)


def check_method(
    method: Method | str,
    model: keras.Model | None = None,
    *,
    x: Any = None,
    background: Any = None,
    compiled: bool = True,
    tolerance: float | None = None,
    gap: float = 0.05,
) -> tuple[str, ...]:
    """Check that a method keeps the contracts of `kerascope.explain`.

    Its maps have the input's shape and the model's precision and are finite; nothing changes the model or the
    samples, not even an exception; the same seed gives the same map; no map depends on the other samples of
    its batch, their order, the batch size, or on which targets are asked for together; what is promised about
    sums and linear models holds; the method can be made again from its repr and from its record; compiling
    changes nothing; and it says which question it answers.

    Args:
        method: a method object, or a registered name. A class of your own needs no registration.
        model: a built model; None: a small convolutional ReLU network.
        x: at least three samples, as the model takes them; None: random ones.
        background: samples for methods that need an absent input; None: random ones.
        compiled: also compare with the compiled run, which takes longer.
        tolerance: allowed difference between two equal calls, relative to the map's largest value; None: 1e-3
            in float32, 1e-7 in float64.
        gap: allowed completeness gap of methods that integrate or draw, relative to the sum of absolute values.

    Returns:
        The names of the contracts that were checked.

    Raises:
        ContractError: naming the contract that is broken.
        KerascopeError: if the method refuses the model.

    Example:
        >>> from kerascope import Gradient
        >>> "finite" in check_method(Gradient(), compiled=False)
        True
    """
    method = registry.as_method(method, {})
    bench = convolutional(keras.config.floatx()) if model is None else Bench.of(model, x, background)
    check = _MethodCheck(bench, method, tolerance, gap)
    check.facts()
    check.round_trip()
    check.on_model(compiled)
    check.linear_model()
    return tuple(dict.fromkeys(check.checked))


def check_on(
    bench: Bench, method: Method, *, tolerance: float | None = None, gap: float = 0.05, thorough: bool = True
) -> tuple[str, ...]:
    """Check one of many methods on a model that is traced once: what depends on the model in `check_method`.

    With ``thorough=False`` in one run: shape, dtype, finite values, nothing changed.
    """
    check = _MethodCheck(bench, method, tolerance, gap)
    if thorough:
        check.on_model(compiled=False)
    else:
        before, samples = model_state(bench.session.view.model), _copied(bench.x)
        check.attribution()
        check.unchanged(before, samples, "after a call of attribute")
    return tuple(dict.fromkeys(check.checked))


class _MethodCheck:
    """One method on one bench: a few runs that cover all contracts; where they disagree, a closer look."""

    def __init__(self, bench: Bench, method: Method, tolerance: float | None, gap: float) -> None:
        self.bench, self.method, self.gap = bench, method, gap
        self.tolerance = tolerance or _TOLERANCE[bench.session.view.dtype]
        self.checked: list[str] = []

    def on_model(self, compiled: bool) -> None:
        before, samples = model_state(self.bench.session.view.model), _copied(self.bench.x)
        values = self.attribution()
        self.unchanged(before, samples, "after a call of attribute")
        explanation = self.consistent(values)
        self.completeness(explanation)
        self.unchanged(before, samples, "after explaining")
        self.interrupted()
        self.unchanged(before, samples, "after an exception in the middle of a run")
        if compiled:
            self.compiled(values)

    def require(self, holds: bool, contract: str, text: str) -> None:
        self.checked.append(contract)
        if not holds:
            raise ContractError(contract, f"{type(self.method).__name__}: {text}")

    def explain(self, rows: list[int], target: Any, *, seed: int = _SEED, batch_size: int = BATCH) -> Explanation:
        session = replace(self.bench.session, batch_size=batch_size)
        return _quietly(Explainer.on(session, self.method), rows_of(self.bench.x, rows), target, seed)

    def values(self, rows: list[int], target: Any, **how: Any) -> list[np.ndarray]:
        return self.bench.flat(self.explain(rows, target, **how).values)

    def facts(self) -> None:
        method = self.method
        self.require(
            method.family in FAMILIES,
            "facts",
            f"family is {method.family!r}; expected one of {', '.join(FAMILIES)}.",
        )
        for name in ("question", "paper"):
            text = getattr(method, name)
            self.require(
                isinstance(text, str) and bool(text.strip()),
                "facts",
                f"{name} is {text!r}; set it as a class variable to one sentence, so that results can say it.",
            )

    def round_trip(self) -> None:
        method = self.method
        config = json.loads(json.dumps(registry.config_of(method)))
        if '"text"' in json.dumps(config["options"]):
            return  # an option that plain data cannot hold, e.g. a composite of the user's own
        known = type(method) in {type(preset) for preset in registry.METHODS.values()}
        if known:
            again = registry.method_from_config(config)
        else:
            again = type(method)(**{name: registry.rebuilt(v) for name, v in config["options"].items()})
        self.require(_same_method(method, again), "round trip", f"its record gives {again!r}, not {method!r} again.")
        try:
            again = eval(repr(method), _namespace(method))
        except Exception as error:
            text = f"its repr {method!r} cannot be evaluated ({error}). Let the dataclass decorator make it."
            raise ContractError("round trip", f"{type(method).__name__}: {text}") from error
        self.require(_same_method(method, again), "round trip", f"its repr gives {again!r}, not {method!r} again.")

    def attribution(self) -> list[np.ndarray]:
        """Call `attribute` itself on all samples, each with two targets."""
        bench, view = self.bench, self.bench.session.view
        selection = bench.target(slice(None), [0, 1]).select(view, 3)
        part = bench.session.ending_in(selection.graph)
        self.method.check(part)
        self.method.check_selection(selection)
        self.method.check_inputs(part, bench.arrays)
        inputs = tuple(array.copy() for array in bench.arrays)
        found = self.method.attribute(part, Batch(inputs, selection, _SEED))
        self.require(
            isinstance(found, Attribution),
            "shape and dtype",
            f"attribute must return an Attribution; it returned {type(found).__name__}.",
        )
        wanted = [(3, selection.count, *array.shape[1:]) for array in inputs]
        came = [np.shape(array) for array in found.values]
        self.require(
            came == wanted,
            "shape and dtype",
            f"values must be a tuple with one array (B, T, *S) per input, here {wanted}; got {came}.",
        )
        dtypes = {str(np.asarray(array).dtype) for array in found.values}
        self.require(
            dtypes == {view.dtype},
            "shape and dtype",
            f"values must be {view.dtype} here; got {', '.join(dtypes)}. Use .astype(session.view.dtype).",
        )
        self.require(all(np.isfinite(array).all() for array in found.values), "finite", "values hold NaN or infinity.")
        self.require(
            all(np.array_equal(a, b) for a, b in zip(inputs, bench.arrays, strict=True)),
            "nothing changed",
            "attribute wrote into batch.inputs. Work on a copy.",
        )
        return list(found.values)

    def consistent(self, values: list[np.ndarray]) -> Explanation:
        """Compare with a call for one sample and one target, which all of these contracts bear on."""
        top = TopClass(output=self.bench.head) if self.bench.codes is not None else self.bench.target(0, 0)
        explanation = self.explain([0, 1, 2], top, seed=_OTHER_SEEDS[0])
        column = values[0].shape[1] - 1
        apart = self.values([2], self.bench.target([2], [column]), batch_size=1)
        if not self.equal([array[[2], column] for array in values], apart):
            self.look_closer()
        self.checked += ["same seed", "order", "single calls", "batch size", "targets per sample", "several targets"]
        found, first = self.bench.flat(explanation.values), [array[:, 0] for array in values]
        if self.method.depends_on_seed(self.bench.session):
            self.other_seeds(found, first, top)
        else:
            text = "the top class by default and by number, or two seeds, give different values."
            self.require(self.equal(first, found), "other seed", text)
        return explanation

    def other_seeds(self, found: list[np.ndarray], first: list[np.ndarray], top: Target) -> None:
        """Require that some other seed gives other values, unless there is nothing to vary."""
        if self.bench.is_linear or not any(np.any(array) for array in first):
            return
        same = all(np.array_equal(a, b) for a, b in zip(found, first, strict=True))
        for seed in _OTHER_SEEDS[1:] if same else ():  # few background samples may be drawn twice in a row
            again = self.values([0, 1, 2], top, seed=seed)
            same = same and all(np.array_equal(a, b) for a, b in zip(again, first, strict=True))
        text = "other seeds give the very same values; draw from batch.seed, or set stochastic = False."
        self.require(not same, "other seed", text)

    def look_closer(self) -> None:
        """Find the contract that is broken, from the simplest on; there is one, or rounding is to blame."""
        rows, bench = [0, 1, 2], self.bench
        one = bench.target([0, 0, 0], 0) if bench.codes is not None else bench.target(0, 0)
        base = self.values(rows, one)
        text = "the same call with the same seed gives other values. Draw from np.random.default_rng(batch.seed)."
        self.require(self.equal(base, self.values(rows, one)), "same seed", text)
        turned = [a[[2, 0, 1]] for a in base]
        text = "samples in another order get other maps: nothing may depend on a sample's place in the batch."
        self.require(self.equal(turned, self.values([2, 0, 1], one)), "order", text)
        single = Class(int(bench.codes[0, 0]), output=bench.head) if bench.codes is not None else one
        alone = [self.values([i], single) for i in rows]
        text = "a sample alone gets another map than in a batch: nothing may be computed across samples."
        self.require(self.equal(base, _stacked(alone)), "single calls", text)
        text = "the batch size changes the maps: nothing may depend on session.batch_size but memory."
        self.require(self.equal(base, self.values(rows, one, batch_size=1)), "batch size", text)
        if bench.codes is not None:
            mixed = self.values(rows, bench.target(rows, [0, 1, 0]))
            pairs = zip(rows, [0, 1, 0], strict=True)
            alone = [self.values([i], Class(int(bench.codes[i, c]), output=bench.head)) for i, c in pairs]
            text = "targets that differ by sample give other maps than calls with one target each."
            self.require(self.equal(mixed, _stacked(alone)), "targets per sample", text)
            several = self.values(rows, bench.target(slice(None), [0, 1]))
            apart = [self.values(rows, bench.target(slice(None), c)) for c in (0, 1)]
            joined = [np.stack(pair, axis=1) for pair in zip(*apart, strict=True)]
            text = "several targets asked for together give other maps than one by one."
            self.require(self.equal(several, joined), "several targets", text)
        self.require(False, "consistency", "equal calls differ by more than rounding; pass a larger tolerance=.")

    def completeness(self, explanation: Explanation) -> None:
        gap = explanation.completeness_gap
        if gap is None or not np.isfinite(gap).any():
            return
        self.require(bool(self.method.promise), "completeness", "it returns expected sums, but its promise is empty.")
        arrays = self.bench.flat(explanation.values)
        total = sum(a.sum(axis=tuple(range(1, a.ndim)), dtype="float64") for a in arrays)
        size = sum(np.abs(a, dtype="float64").sum(axis=tuple(range(1, a.ndim))) for a in arrays)
        largest = explanation.attrs.get("largest_sum")
        absorbed = 0.0 if explanation.absorbed is None else explanation.absorbed
        sampled = largest is None
        scale = np.maximum(size, np.abs(explanation.explained))
        scale = scale if sampled else np.maximum(scale, np.asarray(largest))
        allowed = (self.gap if sampled else self.tolerance / 10) * scale + np.finfo("float32").tiny
        worst = int(np.argmax(np.abs(gap) / allowed))
        self.require(
            bool(np.all(np.abs(gap) <= allowed)),
            "completeness",
            f"the values miss what they must sum to by {abs(gap[worst]):.3g} (allowed: {allowed[worst]:.3g}).",
        )
        promised = total - gap + absorbed
        known = self._sums(explanation)
        close = [np.abs(promised - numbers) <= 1e-3 * np.maximum(scale, 1e-6) for numbers in known]
        self.require(
            bool(np.all(np.any(close, axis=0))),
            "completeness",
            f"it says its values must sum to {promised}, which is neither the explained number less its mean at the "
            f"baselines nor what an LRP walk starts from: {known[0]}.",
        )

    def _sums(self, explanation: Explanation) -> list[np.ndarray]:
        """Return what values may be promised to sum to, before what was absorbed is taken off."""
        explained = np.asarray(explanation.explained, "float64")
        if explanation.baseline is None:
            return [explained, np.maximum(explained, 0), np.ones_like(explained)]
        bench, session = self.bench, self.bench.session
        target = bench.target(0, 0) if bench.codes is None else Class(bench.codes[:, 0], output=bench.head)
        selection = target.select(session.view, 3)
        arrays = tuple(self.bench.flat(explanation.baseline))
        at_baselines = selection.numbers(session.logits(arrays, selection))
        return [explained - at_baselines[:, 0].mean(axis=-1)]

    def linear_model(self) -> None:
        floatx = self.bench.session.view.dtype
        if self.method.exact_on_linear:
            bench = linear(floatx, bias=True)
            # Stabilisers take a little of it.
            check = _MethodCheck(bench, self.method, max(self.tolerance, 1e-4), self.gap)
            explanation = check.explain([0, 1, 2], TopClass())
            kernel = backend.to_numpy(bench.session.view.model.weights[0].value)
            weights = kernel.T[explanation.target].reshape(explanation.values.shape)  # type: ignore[union-attr]
            base = 0.0 if explanation.baseline is None else np.mean(bench.flat(explanation.baseline)[0], axis=0)
            wanted = weights * (bench.flat(explanation.inputs)[0] - base)
            text = "on f(x) = w x + b the map is not w * (x - mean baseline), as exact_on_linear promises."
            self.require(check.equal([wanted], bench.flat(explanation.values)), "linear model", text)
        if self.method.promise:
            bench = linear(floatx, bias=False)
            try:
                explanation = _MethodCheck(bench, self.method, self.tolerance, self.gap).explain([0, 1, 2], TopClass())
            except IncompatibleMethodError:
                return
            gap = explanation.completeness_gap
            promised = gap is not None and bool(np.isfinite(gap).all())
            text = "it promises a sum, but on a linear model without bias it returns no expected sum."
            self.require(promised, "completeness", text)

    def interrupted(self) -> None:
        """Raise in the middle of a run, from a target function, and let the error pass by."""

        def fail(logits: Any) -> Any:
            raise _InterruptedRun

        with contextlib.suppress(Exception):
            self.explain([0, 1, 2], fail)

    def unchanged(self, before: dict[str, Any], samples: list[np.ndarray], when: str) -> None:
        after = model_state(self.bench.session.view.model)
        changed = [name for name in before if before[name] != after[name]]
        self.require(not changed, "nothing changed", f"{when} these have changed: {', '.join(changed)}.")
        same = all(np.array_equal(a, b) for a, b in zip(samples, keras.tree.flatten(self.bench.x), strict=True))
        self.require(same, "nothing changed", f"{when} the samples themselves have changed.")

    def compiled(self, values: list[np.ndarray]) -> None:
        session = replace(self.bench.session, compile=True, _functions={}, _sizes={})
        target = self.bench.target([0, 1], [0, 0])
        found = _quietly(Explainer.on(session, self.method), rows_of(self.bench.x, [0, 1]), target, _SEED)
        text = "compiled it gives other values than step by step."
        self.require(self.equal([a[:2, 0] for a in values], self.bench.flat(found.values)), "compiled", text)

    def equal(self, some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether all arrays are equal, relative to each sample's largest value.

        The square of a rounding is none to look at: where a variance is zero it may be all that is there.
        """
        for a, b in zip(some, others, strict=True):
            axes = tuple(range(1, a.ndim))
            scale = np.max(np.abs(a), axis=axes, keepdims=True)
            allowed = self.tolerance * scale + np.finfo(a.dtype).eps ** 2
            if a.shape != b.shape or not np.all(np.abs(a - b) <= allowed):
                return False
        return True


class _InterruptedRun(Exception):
    """Raised on purpose inside a run."""


def _quietly(explainer: Explainer, x: Any, target: Any, seed: int) -> Explanation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explainer(x, target=target, seed=seed)


def _copied(x: Any) -> list[np.ndarray]:
    return [np.array(array) for array in keras.tree.flatten(x)]


def _stacked(calls: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(column) for column in zip(*calls, strict=True)]


def _same_method(one: Method, other: Any) -> bool:
    return type(one) is type(other) and _same(one.options, other.options)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, Method):
        return _same_method(one, other)
    if isinstance(one, (np.ndarray, list, tuple)):
        return bool(np.array_equal(np.asarray(one, object), np.asarray(other, object)))
    return bool(one == other)


def _namespace(method: Method) -> dict[str, Any]:
    """Return the names that a method's repr may use."""
    known: dict[str, Any] = {type(preset).__name__: type(preset) for preset in registry.METHODS.values()}
    known.update({type(v).__name__: type(v) for v in (method, *method.options.values()) if isinstance(v, Method)})
    return {**known, "array": np.array, "nan": np.nan, "inf": np.inf, "float32": np.float32, "np": np}
