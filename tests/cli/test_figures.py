"""`--figures`: one picture for each map, over the photograph in its own size; and what is said about pictures."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import kerascope as ks
from kerascope.cli import figures
from kerascope.cli.io import read_data
from kerascope.cli.pictures import Pictures
from kerascope.view import figure
from kerascope.view.heatmap import lay_over, pale
from tests.cli.conftest import Run
from tests.cli.test_pictures import drawn, model_of_pictures, network, photo, save  # noqa: F401  # fixtures


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))


def test_maps_lie_over_the_photographs_in_their_own_size(run: Run, model_of_pictures: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "in").mkdir()
    save(drawn(), tmp_path / "in" / "a.png")
    save(drawn(90, 50), tmp_path / "in" / "b.png")
    asked = ("explain", model_of_pictures, tmp_path / "in", "-m", "cam", "-m", "gradient", "--preprocess", "0-1")
    stores = ("-o", tmp_path / "o", "--json")
    ran = run(*asked, "--figures", tmp_path / "maps", *stores)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["figures"] == str(tmp_path / "maps")
    names = [f"{sample}-{method}.png" for sample in "ab" for method in ("cam", "gradient")]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == names
    e = ks.open(tmp_path / "o" / "cam.zarr")
    for i, original in enumerate((drawn(), drawn(90, 50))):
        found = pixels(tmp_path / "maps" / f"{'ab'[i]}-cam.png").astype(int)
        assert found.shape == original.shape
        # The map, enlarged, says how strong the colour is; the layer's peak is the strongest there can be.
        cells = e.values[i, ..., 0]
        y, x = np.unravel_index(np.abs(cells).argmax(), cells.shape)
        at = tuple(int((p + 0.5) * n / m) for p, n, m in zip((y, x), original.shape, cells.shape, strict=False))
        under = np.full((1, 1), cells[y, x])
        wanted = lay_over(original[at][None, None], under, float(np.abs(cells).max()))[0, 0].astype(int)
        assert np.abs(found[at] - wanted).max() <= 25
        assert np.abs(found - pale(original)).max() > 25
    assert e.attrs["preprocess"]["sizes"] == {"a": [40, 60], "b": [90, 50]}
    ran = run(*asked, "--figures", tmp_path / "maps")
    assert ran.status == 1
    assert "maps exists already" in ran.err
    assert run(*asked, "--figures", tmp_path / "maps", "--force").status == 0


def test_figures_of_arrays_and_of_several_targets(run: Run, model_file: Path, data_file: Path, tmp_path: Path) -> None:
    asked = ("explain", model_file, data_file, "-m", "gradient", "--samples", "1:3", "--target", "top:2")
    ran = run(*asked, "--class-names", "a/b,a b,c,d", "--figures", tmp_path / "maps")
    assert ran.status == 0, ran.err
    assert f"Figures {tmp_path / 'maps'}" in ran.out
    names = [path.name for path in (tmp_path / "maps").iterdir()]
    assert len(names) == 4
    assert {name.split("-")[0] for name in names} == {"1", "2"}
    assert all(pixels(tmp_path / "maps" / name).shape[2] == 4 for name in names)


@pytest.mark.parametrize(("channels", "offered"), [(1, "say --preprocess 0-1 or -1-1 (none"), (3, "as vgg16 (none")])
def test_only_preparations_that_fit_are_offered(tmp_path: Path, channels: int, offered: str) -> None:
    save(drawn(), tmp_path / "p.png")
    pictures = Pictures(network((32, 48, channels)), None)
    read_data([str(tmp_path / "p.png")], pictures=pictures)
    (warning,) = pictures.warnings
    assert offered in warning
    assert ("keras.applications" in warning) == (channels == 3)


def test_pictures_that_use_little_of_their_range_are_named(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 40 * 60).reshape(40, 60)
    for name, largest in (("twelve", 4095), ("full", 65535), ("half", 30000)):
        save((ramp * largest).astype(np.uint16), tmp_path / f"{name}.png")
    save((ramp * 20).astype(np.uint8), tmp_path / "eight.png")
    pictures = Pictures(network(), "none")
    data = read_data([str(tmp_path)], pictures=pictures)
    assert pictures.warnings == ()  # none was read yet
    np.asarray(data.values)
    (warning,) = pictures.warnings
    assert "1 picture of 16 bits (twelve.png) with values up to 4095 of 65535" in warning
    assert "Multiply them to fill 0 to 65535" in warning


def test_what_a_folder_of_pictures_holds_besides_is_named(tmp_path: Path) -> None:
    save(drawn(), tmp_path / "p.png")
    for name in ("a.gif", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    pictures = Pictures(network(), "none")
    read_data([str(tmp_path)], pictures=pictures)
    (warning,) = pictures.warnings
    assert "3 other files in the folder left out (a.gif, deeper/, notes.txt): .png, .jpg, .jpeg are read" in warning
    pictures = Pictures(network(), "none")
    read_data([str(tmp_path / "p.png")], pictures=pictures)
    assert pictures.warnings == ()


def test_relevance_is_told_once(run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path) -> None:  # noqa: F811
    ran = run("explain", model_of_pictures, photo, "-m", "cam", "--preprocess", "0-1", "-o", tmp_path / "o.zarr")
    assert ran.status == 0, ran.err
    assert "relevance is the same for every channel, and told once" in ran.out
    assert "sums to +" not in ran.out
    values = ks.open(tmp_path / "o.zarr").values
    peak = values.ravel()[np.abs(values).argmax()]
    from kerascope.view.text import number

    assert f"({number(peak, signed=True)})" in ran.out


def test_figures_of_arrays_are_drawn_from_the_map_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plot` itself counts what repeats over channels once: divided before, colours would end three times lower."""
    layers = keras.layers
    parts = [layers.Conv2D(3, 3, name="conv"), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    model = keras.Sequential([layers.Input((6, 6, 3)), *parts])
    e = ks.explain(
        model, np.random.default_rng(0).normal(size=(1, 6, 6, 3)), "grad_cam", target=0, layer="conv", relu=False
    )
    given, plot = [], figure.plot
    monkeypatch.setattr(figure, "plot", lambda one, *args, **how: given.append(one.values) or plot(one, *args, **how))
    figures.write([e], tmp_path / "maps", {})
    np.testing.assert_array_equal(given, [e.values])
