"""Photographs as DATA: how they are read, prepared and shown, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerascope as ks
from kerascope.cli.io import files_in, read_array, read_data
from kerascope.cli.pictures import (
    Frame,
    Pictures,
    frame_of,
    preparation,
    preparations,
    read_picture,
    scales_itself,
)
from kerascope.errors import BadInputError, KerascopeError, UnknownNameError
from kerascope.view.panel import panel_of
from tests.cli.conftest import Run

COLOUR, GREY = Frame(None, None, 3, 2), Frame(None, None, 1, 2)


def drawn(height: int = 40, width: int = 60, shift: int = 0) -> np.ndarray:
    """A smooth picture in colours, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (40 + 3 * y + shift, 250 - 2 * x - shift, 90 + x + y)
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def save(array: np.ndarray, path: Path, **how: Any) -> Path:
    from PIL import Image

    Image.fromarray(array).save(path, **how)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save(drawn(), tmp_path / "photo.png")


def network(shape: tuple[int | None, ...] = (32, 48, 3), *first: Any) -> Any:
    """A small classifier of pictures into four classes."""
    import keras

    axis = "channels_first" if shape[0] in (1, 3) else "channels_last"
    layers = [
        keras.layers.Conv2D(4, 3, activation="relu", data_format=axis),
        keras.layers.GlobalAveragePooling2D(data_format=axis),
        keras.layers.Dense(4, activation="softmax"),
    ]
    return keras.Sequential([keras.Input(shape), *first, *layers], name="looker")


# Reading one file ---------------------------------------------------------------------


def test_a_picture_is_read_as_it_is(photo: Path) -> None:
    np.testing.assert_array_equal(read_picture(photo, COLOUR), drawn())
    grey = read_picture(photo, GREY)
    assert grey.shape == (40, 60, 1)
    np.testing.assert_allclose(grey[..., 0], drawn() @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_resizing_is_bilinear(tmp_path: Path) -> None:
    from PIL import Image

    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 3, axis=-1).repeat(20, axis=0)
    halved = read_picture(save(ramp, tmp_path / "ramp.png"), Frame(10, 10, 3, 2))
    assert halved.shape == (10, 10, 3)
    # A linear ramp stays one: the middle of two neighbours is their mean.
    np.testing.assert_allclose(halved[5, 1:-1, 0], ramp[0, :, 0].reshape(10, 2).mean(axis=1)[1:-1], atol=0.51)
    expected = Image.fromarray(drawn()).resize((30, 25), Image.Resampling.BILINEAR)
    found = read_picture(save(drawn(), tmp_path / "p.png"), Frame(25, 30, 3, 2))
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_exif_turns_a_picture_upright(tmp_path: Path) -> None:
    from PIL import Image

    stored = Image.fromarray(np.rot90(drawn(), k=1).copy())  # lies on its side, as a camera held upright stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored.save(tmp_path / "side.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "side.png", COLOUR), drawn())
    data = read_data([str(tmp_path / "side.png")], pictures=Pictures(network((None, None, 3)), "none"))
    assert data.values.shape == (1, 40, 60, 3)  # told before its pixels are read


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    clear = np.concatenate([drawn(), np.zeros((40, 60, 1), np.uint8)], axis=-1)
    clear[:20, ..., 3] = 255
    clear[20:30, ..., 3] = 51
    found = read_picture(save(clear, tmp_path / "clear.png"), COLOUR)
    np.testing.assert_array_equal(found[:20], drawn()[:20])
    np.testing.assert_allclose(found[20:30], 0.2 * drawn()[20:30] + 0.8 * 255, atol=1.0)
    assert (found[30:] == 255).all()
    by_palette = np.asarray(read_picture(_palette(tmp_path / "palette.png"), COLOUR))
    assert (by_palette[:, 30:] == 255).all()
    assert (by_palette[:, :30] == (200, 0, 0)).all()


def _palette(path: Path) -> Path:
    """A picture of two colours in a palette, the second of them transparent."""
    from PIL import Image

    picture = Image.fromarray(np.repeat([[0] * 30 + [1] * 30], 40, axis=0).astype(np.uint8), mode=None)
    picture = picture.convert("P")
    picture.putpalette([200, 0, 0, 0, 200, 0] + [0] * 762)
    picture.save(path, transparency=1)
    return path


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    from PIL import Image

    deep = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = read_picture(tmp_path / "deep.png", COLOUR)
    np.testing.assert_allclose(found[..., 0], deep / 257.0, atol=0.51)


@pytest.mark.parametrize("make", ["text", "cut", "gif", "empty"])
def test_what_is_no_picture_or_damaged_is_refused(tmp_path: Path, photo: Path, make: str) -> None:
    path = tmp_path / "bad.jpg"
    if make == "text":
        path.write_text("no")
    elif make == "cut":
        save(drawn(200, 300), path)
        path.write_bytes(path.read_bytes()[:-700])
    elif make == "gif":
        from PIL import Image

        Image.fromarray(drawn()).save(path, format="GIF")
    else:
        path.touch()
    with pytest.raises(BadInputError, match=r"bad\.jpg cannot be read: it is no PNG or JPEG picture, or it is damaged"):
        read_picture(path, COLOUR)


# What a model takes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((32, 48, 3), Frame(32, 48, 3, 2)),
        ((32, 48, 1), Frame(32, 48, 1, 2)),
        ((None, None, 3), Frame(None, None, 3, 2)),
    ],
)
def test_the_frame_is_the_models_input(shape: tuple[int | None, ...], expected: Frame) -> None:
    assert frame_of(network(shape)) == expected


def test_frames_of_other_models() -> None:
    import keras

    first = keras.Sequential([keras.Input((3, 20, 30)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert frame_of(first) == Frame(20, 30, 3, 0)
    flat = keras.Sequential([keras.Input((20, 30)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert frame_of(flat) == Frame(20, 30, 1, None)
    either = keras.Sequential([keras.Input((3, 20, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert frame_of(either).axis == 2  # as keras.config says
    pool = keras.layers.MaxPooling2D(data_format="channels_first")
    either = keras.Sequential([keras.Input((3, 20, 3)), pool, keras.layers.Flatten(), keras.layers.Dense(2)])
    assert frame_of(either).axis == 0
    for shape in ((784,), (20, 30, 5)):
        other = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])
        with pytest.raises(BadInputError, match=r"which are no pictures of 1 or 3 channels. Give an array"):
            frame_of(other)
    two = [keras.Input((8, 8, 3), name=name) for name in ("left", "right")]
    with pytest.raises(BadInputError, match=r"takes 2 inputs \(left, right\); pictures can be given to"):
        frame_of(keras.Model(two, keras.layers.Add()(two)))


def test_a_subclassed_model_leaves_the_size_open() -> None:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = keras.layers.Conv2D(2, 3)

        def call(self, x: Any) -> Any:
            return self.convolution(x)

    model = Own()
    model(np.zeros((1, 9, 9, 3), "float32"))
    assert frame_of(model).channels == 3


def test_whether_a_model_scales_its_inputs() -> None:
    import keras

    layers = keras.layers
    assert not scales_itself(network())
    assert scales_itself(network((32, 48, 3), layers.Rescaling(1 / 255)))
    assert scales_itself(network((32, 48, 3), layers.RandomFlip(), layers.ZeroPadding2D(), layers.Rescaling(1 / 255)))
    assert not scales_itself(network((32, 48, 3), layers.RandomFlip()))
    inside = network((32, 48, 3), layers.Normalization(mean=[1.0] * 3, variance=[2.0] * 3))
    given = keras.Input((32, 48, 3))
    assert scales_itself(keras.Model(given, inside(given)))
    prepared = keras.applications.vgg16.preprocess_input(given)
    assert scales_itself(keras.Model(given, layers.Conv2D(2, 3)(prepared)))
    assert scales_itself(keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3)))
    assert not scales_itself(keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35))


# Preparing ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "mobilenet_v2", "densenet", "efficientnet"])
@pytest.mark.parametrize("axis", [2, 0])
def test_preparing_is_what_keras_does(tmp_path: Path, name: str, axis: int) -> None:
    import keras

    shape = (32, 48, 3) if axis == 2 else (3, 32, 48)
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])
    for i in range(2):
        save(drawn(shift=30 * i), tmp_path / f"p{i}.png")
    found = np.asarray(read_data([str(tmp_path)], pictures=Pictures(model, name)).values)
    x = np.stack([read_picture(tmp_path / f"p{i}.png", Frame(32, 48, 3, 2)) for i in range(2)]).astype("float32")
    data_format = "channels_last" if axis == 2 else "channels_first"
    x = x if axis == 2 else np.moveaxis(x, -1, 1).copy()
    module = getattr(keras.applications, name)
    assert found.shape == (2, *shape)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, module.preprocess_input(x.copy(), data_format=data_format))


@pytest.mark.parametrize(("name", "low", "high"), [("none", 0, 255), (None, 0, 255), ("0-1", 0, 1), ("-1-1", -1, 1)])
def test_plain_scalings(name: str | None, low: float, high: float) -> None:
    x = np.array([0.0, 255.0], dtype=np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(preparation(name, 1).function(x).ravel(), [low, high])


def test_every_known_preparation_can_be_turned_back() -> None:
    """Each name that Keras has: the picture shown is the picture read."""
    assert {"none", "0-1", "-1-1", "vgg16", "xception", "convnext"} <= set(preparations())
    assert "imagenet_utils" not in preparations()
    kinds = {name: preparation(name, 3).kind for name in preparations()}
    assert None not in kinds.values()
    assert (kinds["vgg16"], kinds["densenet"], kinds["xception"]) == ("means", "standard", "-1..1")


def test_unknown_preparations_are_refused(photo: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown preparation 'vgg61'. Did you mean .*'vgg16'"):
        Pictures(network(), "vgg61")
    with pytest.raises(BadInputError, match=r"--preprocess vgg16 is made for pictures in colour; .* one channel"):
        read_data([str(photo)], pictures=Pictures(network((32, 48, 1)), "vgg16"))


# Several files ------------------------------------------------------------------------


def test_a_folder_in_natural_order_read_when_asked_for(tmp_path: Path) -> None:
    for i in (10, 9, 1):
        save(drawn(shift=i), tmp_path / f"p{i}.png")
    (tmp_path / "notes.txt").write_text("not a sample")
    data = read_data([str(tmp_path)], pictures=Pictures(network((None, None, 3)), "none"))
    assert data.samples is not None
    assert data.samples.tolist() == ["p1", "p9", "p10"]
    assert data.values.shape == (3, 40, 60, 3)
    (tmp_path / "p10.png").write_bytes(b"broken")  # only those chosen are read
    chosen = data.chosen(slice(0, 2))
    np.testing.assert_array_equal(chosen.values, np.stack([drawn(shift=1), drawn(shift=9)]))
    np.testing.assert_array_equal(data.values[1], drawn(shift=9))
    with pytest.raises(KerascopeError, match=r"p10\.png cannot be read: it is no PNG"):
        np.asarray(data.values)


def test_names_tell_files_apart(tmp_path: Path) -> None:
    save(drawn(), tmp_path / "a.png")
    save(drawn(), tmp_path / "a.jpg")
    data = read_data([str(tmp_path / "a.png"), str(tmp_path / "a.jpg")], pictures=Pictures(network(), "none"))
    assert data.samples is not None
    assert sorted(data.samples.tolist()) == ["a.jpg", "a.png"]


def test_sizes_that_differ(tmp_path: Path) -> None:
    small, large = save(drawn(), tmp_path / "a.png"), save(drawn(50, 60), tmp_path / "b.png")
    both = [str(small), str(large)]
    assert read_data(both, pictures=Pictures(network(), "none")).values.shape == (2, 32, 48, 3)
    with pytest.raises(BadInputError, match=r"b\.png is 60 pixels wide, 50 high, .*a\.png 60 .* 40 .*resize them"):
        read_data(both, pictures=Pictures(network((None, None, 3)), "none"))


def test_mixtures_are_refused(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "m.csv").write_text("1,2\n")
    pictures = Pictures(network(), "none")
    with pytest.raises(BadInputError, match=r"must all be \.csv files, one matrix each; .*photo\.png is not"):
        read_data([str(tmp_path)], pictures=pictures)
    with pytest.raises(BadInputError, match=r"must all be pictures, one sample each; .*m\.csv is not"):
        read_data([str(photo), str(tmp_path / "m.csv")], pictures=pictures)
    with pytest.raises(BadInputError, match=r"holds no arrays with names: leave ::k out"):
        read_data([f"{photo}::k"], pictures=pictures)
    with pytest.raises(BadInputError, match=r"is a picture; here an array is wanted"):
        read_data([str(photo)])


def test_folders_hold_matrices_or_pictures(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "deeper").mkdir()
    assert files_in(tmp_path) == [photo]
    with pytest.raises(BadInputError, match=r"neither a Zarr store nor a folder of \.csv files or pictures"):
        files_in(tmp_path / "deeper")


# From the command line ----------------------------------------------------------------


@pytest.fixture
def model_of_pictures(tmp_path: Path) -> Path:
    model = network()
    model.set_weights([0.02 * np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_one_command_lays_a_map_over_a_photograph(
    run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path
) -> None:
    asked = ("explain", model_of_pictures, photo, "-m", "grad_cam", "--preprocess", "vgg16")
    ran = run(*asked, "--class-names", "cat,dog,bird,fish", "-o", tmp_path / "o.zarr", "-r", tmp_path / "r.html")
    assert (ran.status, ran.err) == (0, "")
    assert "pictures: 48 pixels wide, 32 high, colour; values prepared as keras.applications.vgg16 does" in ran.out
    assert "no Rescaling" not in ran.out
    assert "strongest pixel is at row" in ran.out
    e = ks.open(tmp_path / "o.zarr")
    assert e.attrs["preprocess"]["kind"] == "means"
    assert e.coords["sample"].tolist() == ["photo"]
    assert f"Sample photo: class {e.target_name(0)}, logit" in ran.out
    assert e.target_name(0) in ("cat", "dog", "bird", "fish")
    panel = panel_of(e)
    assert panel.kind == "picture"
    np.testing.assert_array_equal(panel.photo(e.inputs[0]), read_picture(photo, Frame(32, 48, 3, 2)))
    page = (tmp_path / "r.html").read_text("utf-8")
    assert f"Sample photo: class {e.target_name(0)}, logit" in page
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)  # of the layer chosen
        again = ks.explain(model_of_pictures, e.inputs, "grad_cam")
    np.testing.assert_allclose(e.values, again.values, rtol=1e-5)


def test_values_nobody_scaled_are_warned_of(run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path) -> None:
    import keras

    text = "The pictures were given as values 0 to 255, and the model does not begin with a Rescaling"
    asked = ("explain", model_of_pictures, photo, "-m", "gradient", "--json")
    (found,) = json.loads(run(*asked).out)["explanations"]
    assert any(warning.startswith(text) for warning in found["warnings"])
    assert found["preprocess"] == "none"
    for name in ("none", "0-1", "-1-1"):
        (found,) = json.loads(run(*asked, "--preprocess", name).out)["explanations"]
        assert not any(text in warning for warning in found["warnings"])
        assert found["preprocess"] == name
    network((32, 48, 3), keras.layers.Rescaling(1 / 255)).save(tmp_path / "scales.keras")
    asked = ("explain", tmp_path / "scales.keras", photo, "-m", "gradient", "--json")
    (found,) = json.loads(run(*asked).out)["explanations"]
    assert not any(text in warning for warning in found["warnings"])
    (found,) = json.loads(run(*asked, "--preprocess", "0-1").out)["explanations"]
    assert any("begins by scaling them itself" in warning for warning in found["warnings"])


def test_wrong_usage(run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path) -> None:
    ran = run("explain", model_of_pictures, photo, "--preprocess", "vgg61")
    assert ran.status == 2
    assert "Unknown preparation 'vgg61'" in ran.err
    np.save(tmp_path / "x.npy", np.zeros((2, 32, 48, 3), "float32"))
    ran = run("explain", model_of_pictures, tmp_path / "x.npy", "-m", "gradient", "--preprocess", "vgg16")
    assert ran.status == 1
    assert "--preprocess vgg16 is for pictures (.png, .jpg, .jpeg), and none was given" in ran.err


def test_a_damaged_picture_is_named(run: Run, model_of_pictures: Path, photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-700])
    ran = run("explain", model_of_pictures, photo, "-m", "gradient")
    assert ran.status == 1
    assert f"{photo.name} cannot be read" in ran.err.replace("\n", " ")
    assert "array of numbers" not in ran.err


def test_only_data_make_a_map_one_of_pictures(run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 32, 48, 3), "float32"))
    asked = ("explain", model_of_pictures, tmp_path / "x.npy", "-m", "integrated_gradients", "--preprocess", "0-1")
    for option in ("--background", "--baseline"):
        ran = run(*asked, option, photo, "--json")
        assert ran.status == 0, ran.err
        (found,) = json.loads(ran.out)["explanations"]
        assert found["preprocess"] is None
    pictures = Pictures(network((None, None, 3)), "0-1")
    save(drawn(20, 30), tmp_path / "small.png")
    read_data([str(photo)], pictures=pictures)
    read_array(str(tmp_path / "small.png"), pictures=pictures)
    assert pictures.said == "60 pixels wide, 40 high, colour; values scaled to 0 to 1"


def test_backgrounds_evidence_and_patterns(run: Run, model_of_pictures: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        noisy = np.clip(drawn(shift=3 * i).astype(int) + rng.integers(-40, 40, (40, 60, 3)), 0, 255)
        save(noisy.astype(np.uint8), tmp_path / "train" / f"t{i}.png")
    background = ("--background", tmp_path / "train", "--preprocess", "0-1")
    ran = run("explain", model_of_pictures, photo, "-m", "integrated_gradients", *background, "--json")
    assert ran.status == 0, ran.err
    (found,) = json.loads(ran.out)["explanations"]
    assert found["baseline"].startswith("mean of 24 background samples")
    ran = run("explain", model_of_pictures, photo, "-m", "gradient_x", *background)
    assert ran.status == 2
    (tmp_path / "labels.csv").write_text("\n".join(str(i % 4) for i in range(24)))
    labels = ("--background-labels", tmp_path / "labels.csv", "--level", "0.9", "--target", "1")
    ran = run("evidence", model_of_pictures, photo, *background, *labels, "--no-check", "-o", tmp_path / "e.zarr")
    assert ran.status == 0, ran.err
    assert ks.open(tmp_path / "e.zarr").explanation.attrs["preprocess"]["kind"] == "0..1"
    said = "48 pixels wide, 32 high, colour; values scaled to 0 to 1"
    assert f"pictures: {said}" in ran.out
    page = ("-r", tmp_path / "e.html", "--json")
    ran = run("evidence", model_of_pictures, photo, *background, *labels, "--no-check", *page)
    assert json.loads(ran.out)["preprocess"] == "0-1"
    assert f"<dt>Pictures</dt><dd>{said}</dd>" in (tmp_path / "e.html").read_text("utf-8")
    out = ("--out", tmp_path / "p.npz")
    ran = run("fit-patterns", model_of_pictures, tmp_path / "train", *out, "--json")
    assert ran.status == 0, ran.err
    assert any("values 0 to 255" in warning for warning in json.loads(ran.out)["warnings"])
    ran = run("fit-patterns", model_of_pictures, tmp_path / "train", *out, "--force", "--preprocess", "0-1", "--json")
    assert json.loads(ran.out)["samples"] == 24
    assert not any("values 0 to 255" in warning for warning in json.loads(ran.out)["warnings"])
