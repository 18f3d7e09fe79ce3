"""Explanations made by hand, no model needed: what reports are tested on, and looked at."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from kerascope.explanation import Explanation

HOSTILE = "<script>alert(1)</script>"
TEX = r"$$x^2$$ \(y\) \[z\]"


def attrs(name: str = "integrated_gradients", **more: Any) -> dict[str, Any]:
    return {
        "kerascope": "0.1.0",
        "keras": "3.15.1",
        "backend": "jax",
        "backend_version": "0.10.2",
        "numpy": "2.3.0",
        "python": "3.11.9",
        "seed": 0,
        "batch_size": 32,
        "dtype": "float32",
        "model": {"name": "activities", "fingerprint": "3f9a1c0de4b2", "parameters": 12485},
        "method": {
            "name": name,
            "class": "IntegratedGradients",
            "options": {"steps": 64},
            "family": "attribution",
            "question": "How much did each input contribute to this output value?",
            "paper": "Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks",
            "promise": "the map sums to f(x) - f(baseline)",
        },
        "method_reason": None,
        "target": {"kind": "class", "text": "top class of each sample"},
        "output": {"head": "dense_2", "index": 0, "taken_off": "softmax", "explained": "logit"},
        "graph": {"operations": 9, "folded": ["bn_1 into conv_1"], "split": [], "taken_off": [], "notes": []},
        "rules": [],
        "baseline": {"text": "mean of 64 background samples", "count": 1, "output": []},
        "ordered": None,
    } | more


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def explanation(
    values: np.ndarray,
    inputs: np.ndarray,
    *,
    dims: Any,
    class_names: tuple[str, ...] | None = None,
    gap: float = 0.003,
    classes: int = 4,
    **more: Any,
) -> Explanation:
    """An explanation whose logits fit its map: sum of the map = logit - 0.2 + gap."""
    count, many = len(inputs), values.ndim == inputs.ndim + 1
    shape = (count, values.shape[1]) if many else (count,)
    total = values.reshape(*shape, -1).sum(axis=-1, dtype=np.float64)
    target = np.tile(np.arange(shape[1]), (count, 1)) if many else np.arange(count) % classes
    logits = np.random.default_rng(1).normal(size=(count, classes))
    np.put_along_axis(logits, target.reshape(count, -1), (total - gap + 0.2).reshape(count, -1), axis=1)
    said = attrs()
    said["baseline"]["output"] = [0.2] * count
    fields: dict[str, Any] = {
        "values": values.astype(np.float32),
        "inputs": inputs.astype(np.float32),
        "outputs": softmax(logits),
        "explained": total - gap + 0.2,
        "target": target,
        "method": "integrated_gradients",
        "dims": dims,
        "class_names": class_names,
        "completeness_gap": np.full(shape, gap),
        "attrs": said,
    }
    return Explanation(**fields | more)


SENSORS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
ACTIVITIES = ("standing", "running", "walking", "badminton")


def sensors(count: int = 4, **more: Any) -> Explanation:
    """Time x sensor, both signs, named sensors, seconds along time."""
    rng = np.random.default_rng(0)
    t = np.arange(100) / 10.0
    x = np.sin(t[None, :, None] * (1 + np.arange(6)) + rng.uniform(0, 6, (count, 1, 6)))
    x = x * np.array([1, 1, 1, 4, 3, 2]) + 0.3 * rng.normal(size=(count, 100, 6))
    r = 0.004 * rng.normal(size=x.shape)
    for n in range(count):
        start = 12 + 17 * (n % 4)
        r[n, start : start + 22, (3 + n) % 6] += 0.09 * np.hanning(22) * np.sign(x[n, start : start + 22, 3]) + 0.02
        r[n, 70:84, (n + 1) % 6] -= 0.02
    coords = {"sensor": np.array(SENSORS), "time": t}
    return explanation(r, x, **{"dims": ("time", "sensor"), "coords": coords, "class_names": ACTIVITIES} | more)


def planted(count: int = 3, **more: Any) -> tuple[Explanation, np.ndarray]:
    """Rows x columns in 0..1 with a planted stretch, and its truth."""
    rng = np.random.default_rng(2)
    x = np.clip(0.5 + 0.15 * rng.normal(size=(count, 20, 64)), 0, 1)
    truth = np.zeros(x.shape, dtype=bool)
    r = 0.003 * rng.normal(size=x.shape)
    for n in range(count):
        row, start = (3 + 5 * n) % 20, 10 + 16 * (n % 3)
        truth[n, row, start : start + 12] = True
        r[n, row, start + 1 : start + 12] += 0.2 + 0.05 * rng.normal(size=11)
        x[n, row, start : start + 12] = np.clip(0.5 + 0.45 * np.sin(np.arange(12) * 1.3), 0, 1)
    return explanation(r[..., None], x[..., None], dims=("row", "column", "channel"), **more), truth


def photo(size: tuple[int, int] = (96, 128), count: int = 2, channels: int = 3, **more: Any) -> Explanation:
    """A smooth picture, and a map with a blob."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    samples, maps = [], []
    for n in range(count):
        disc = np.hypot(y - 0.5, (x - 0.35 - 0.2 * n) * 1.3) < 0.28
        colours = np.stack([0.35 + 0.5 * y, 0.55 + 0.2 * x, 0.85 - 0.4 * y], axis=-1)
        samples.append(np.where(disc[..., None], np.array([0.85, 0.55 - 0.2 * n, 0.2]), colours))
        edge = np.exp(-((np.hypot(y - 0.5, (x - 0.35 - 0.2 * n) * 1.3) - 0.28) ** 2) / 0.003)
        maps.append(edge * np.sin(6 * np.arctan2(y - 0.5, x - 0.35)) + 0.4 * disc)
    values = 0.001 * np.repeat(np.stack(maps)[..., None], channels, axis=-1)
    inputs = np.stack(samples) if channels == 3 else np.stack(samples).mean(axis=-1, keepdims=True)
    return explanation(values, inputs, dims=("row", "column", "channel"), **more)


def cam(size: tuple[int, int] = (32, 32), **more: Any) -> Explanation:
    """Pictures with a class activation map: 4 x 4 cells, enlarged by nearest cells, the same for every channel."""
    e = photo(size)
    raw = np.random.default_rng(6).normal(size=(len(e), 4, 4)).astype(np.float32)
    values = np.repeat(np.kron(raw, np.ones((size[0] // 4, size[1] // 4)))[..., None], 3, axis=-1)
    said = attrs("cam", baseline=None)
    said["method"] |= {"class": "CAM", "options": {}, "family": "localisation"}
    fields: dict[str, Any] = {"values": values.astype(np.float32), "layer_map": raw, "method": "cam", "attrs": said}
    return dataclasses.replace(e, **fields | {"completeness_gap": np.full(len(e), np.nan)} | more)


def resized(e: Explanation, *sizes: tuple[int, int]) -> Explanation:
    """An explanation of pictures that says how high and wide its photographs were before they were resized."""
    names = [f"p{i}" for i in range(len(sizes))]
    said = {"name": "none", "kind": "0..1", "text": "", "sizes": dict(zip(names, map(list, sizes), strict=True))}
    coords = {**e.coords, "sample": np.array(names)}
    return dataclasses.replace(e, coords=coords, attrs={**e.attrs, "preprocess": said})


def prepared(kind: str = "standard", class_names: tuple[str, ...] = ("cat", "dog", "bird", "fish")) -> Explanation:
    """The pictures of `photo` as a network for ImageNet takes them, which says so."""
    e = photo(class_names=class_names)
    pixels = np.rint(e.inputs * 255.0)
    given = {
        "standard": (pixels / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
        "means": pixels[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    }[kind]
    said = {"name": "densenet" if kind == "standard" else "vgg16", "kind": kind, "text": ""}
    return dataclasses.replace(e, inputs=given.astype(np.float32), attrs={**e.attrs, "preprocess": said})


def line(count: int = 2, **more: Any) -> Explanation:
    """One axis: a spectrum."""
    rng = np.random.default_rng(4)
    nu = np.linspace(400, 4000, 300)
    x = sum(np.exp(-(((nu - c) / w) ** 2)) for c, w in ((900, 60), (1650, 80), (2900, 150), (3400, 200)))
    x = np.stack([x * rng.uniform(0.6, 1.4) + 0.02 * rng.normal(size=300) for _ in range(count)])
    r = (
        0.002 * rng.normal(size=x.shape)
        + 0.05 * np.exp(-(((nu - 1650) / 90) ** 2))
        - 0.03 * np.exp(-(((nu - 2900) / 99) ** 2))
    )
    return explanation(r, x, **{"dims": ("wavenumber",), "coords": {"wavenumber": nu}} | more)


def table(count: int = 2, **more: Any) -> Explanation:
    """One axis of named features."""
    names = np.array(["alcohol", "malic acid", "ash", "magnesium", "total phenols", "hue", "proline"])
    rng = np.random.default_rng(5)
    return explanation(
        rng.normal(size=(count, 7)),
        rng.normal(size=(count, 7)),
        dims=("feature",),
        coords={"feature": names},
        **more,
    )


def several_targets(count: int = 3) -> Explanation:
    one = sensors(count)
    values = np.stack([one.values, -0.6 * one.values[:, ::-1], 0.3 * one.values], axis=1)
    return explanation(values, one.inputs, dims=one.dims, coords=one.coords, class_names=ACTIVITIES)


def several_inputs(count: int = 3) -> Explanation:
    """A matrix, and a line of named features."""
    one, other = sensors(count), table(count)
    total = one.explained
    return Explanation(
        values={"motion": one.values, "person": other.values},
        inputs={"motion": one.inputs, "person": other.inputs},
        outputs=one.outputs,
        explained=total,
        target=one.target,
        method="integrated_gradients",
        dims={"motion": ("time", "sensor"), "person": ("feature",)},
        coords={**one.coords, **other.coords},
        class_names=ACTIVITIES,
        attrs=attrs(),
    )


def hostile(count: int = 2) -> Explanation:
    """Every text that a user can give, hostile."""
    sensors_ = np.array(
        [HOSTILE, TEX, '"><img src=x onerror=alert(1)>', "</template></script>", "a" * 300, "{{ 7*7 }}"]
    )
    said = attrs(HOSTILE)
    said["method"] |= {"question": TEX + HOSTILE, "paper": HOSTILE, "options": {HOSTILE: TEX}}
    said["model"] = {"name": HOSTILE + TEX, "fingerprint": "'\"><", "parameters": 3}
    said["rules"] = [{"node": HOSTILE, "layer": TEX, "rule": "</details>"}]
    said["target"] = {"kind": "class", "text": HOSTILE}
    said["graph"]["notes"] = [HOSTILE]
    said["baseline"] = {"text": HOSTILE + TEX, "count": 2, "output": [0.1] * count}
    return sensors(
        count,
        dims=("$$t$$", HOSTILE.replace("/", "|")),
        coords={HOSTILE.replace("/", "|"): sensors_, "sample": np.array([HOSTILE, TEX])},
        class_names=(HOSTILE, TEX, "c", "d"),
        warnings=(HOSTILE, TEX, "&lt;b&gt;"),
        attrs=said,
    )
