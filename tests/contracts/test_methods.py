"""Every registered method on every case model: the contracts, or a refusal that is expected and names the layer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import pytest

import kerascope as ks
from kerascope.registry import METHODS
from kerascope.testing.bench import Bench
from kerascope.testing.methods import check_on
from tests.cases import Case, by_name, cases
from tests.conftest import narrowing, numeric_state, set_numeric_state

BOUNDS = {"low": -8.0, "high": 8.0}
OPTIONS = {
    "smoothgrad": {"draws": 2},
    "integrated_gradients": {"steps": 32},
    "expected_gradients": {"draws": 32},
    "occlusion": {"window": 4, "fills": 1},
    "deep_taylor.bounded": BOUNDS,
    "lrp.z_box": BOUNDS,
    "lrp.epsilon_gamma_box": BOUNDS,
}
"""Where the defaults would take long, or bounds are needed."""


ORDER = sorted(METHODS, key=lambda name: name != "integrated_gradients")
"""The largest batches come first: on JAX the smaller ones are padded to them, so that less is compiled."""


def method_of(name: str) -> ks.Method:
    return dataclasses.replace(METHODS[name], **OPTIONS.get(name, {}))


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


@functools.lru_cache(maxsize=2)
def bench_of(name: str) -> Bench:
    case = by_name(name)
    return Bench.of(case.build(), case.sample(3), case.sample(4, seed=5))


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_contracts(case: Case, name: str) -> None:
    check_on(bench_of(case.name), method_of(name))
