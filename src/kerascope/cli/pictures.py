"""Photographs as samples: .png and .jpg files, brought to the size, channels and numbers that a model takes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.cli.io import PICTURES
from kerascope.errors import BadInputError, UnknownNameError, counted, unknown_name
from kerascope.view.picture import KINDS, PREPARED, SIZES, as_picture, pixels

if TYPE_CHECKING:
    from PIL import Image

    from kerascope.evidence.record import Evidence
    from kerascope.explanation import Explanation

_FORMATS = ("PNG", "JPEG")
_ORIENTATION, _TURNED = 0x0112, 5  # EXIF: from this value on, width and height are exchanged
_LARGEST = 65535  # of 16 bits

Function = Callable[[np.ndarray], np.ndarray]
_SCALINGS: dict[str, tuple[Function, str]] = {
    "none": (lambda x: x, "values 0 to 255, as they are in the files"),
    "0-1": (lambda x: x / 255.0, "values scaled to 0 to 1"),
    "-1-1": (lambda x: x / 127.5 - 1.0, "values scaled to -1 to 1"),
}


# What the model takes -----------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """What a model takes as a picture.

    Attributes:
        height, width: in pixels; None where the model leaves them open.
        channels: 1 (grey) or 3 (red, green, blue).
        axis: where a sample has its channels, 0 or 2; None where it has no such axis.
    """

    height: int | None
    width: int | None
    channels: int
    axis: int | None


def frame_of(model: Any) -> Frame:
    """Return what a model takes as a picture.

    Raises:
        BadInputError: it takes no pictures, or several inputs.
    """
    from kerascope.model.signature import signature_of

    # Zero stands for sizes that nobody declared: those of a subclassed model are taken from what it is given.
    specs = signature_of(model, np.zeros((1, 0, 0, 3), dtype=np.float32)).specs
    if len(specs) > 1:
        names = ", ".join(spec.name for spec in specs)
        raise BadInputError(
            f"The model takes {len(specs)} inputs ({names}); pictures can be given to a model with one. Save an array "
            "for each input in an .npz file."
        )
    shape = tuple(size or None for size in specs[0].shape)
    if len(shape) == 2:
        return Frame(shape[0], shape[1], 1, None)
    axis = _channel_axis(model, shape) if len(shape) == 3 else 0
    if len(shape) != 3 or shape[axis] not in (None, 1, 3):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise BadInputError(
            f"The model takes samples of shape ({sizes}), which are no pictures of 1 or 3 channels. Give an array."
        )
    height, width = (shape[a] for a in range(3) if a != axis)
    return Frame(height, width, shape[axis] or 3, axis)


def _channel_axis(model: Any, shape: Sequence[int | None]) -> int:
    """Return the axis with 1 or 3 cells; where both or none could be it, the model's layers decide."""
    import keras

    likely = [axis for axis in (0, 2) if shape[axis] in (1, 3)]
    if len(likely) == 1:
        return likely[0]
    formats = [layer.data_format for layer in _layers(model) if getattr(layer, "data_format", None)]
    return 0 if [*formats, keras.config.image_data_format()][0] == "channels_first" else 2


def _layers(model: Any) -> Iterator[Any]:
    """Yield what a model does, in order, with what models inside it do in their place."""
    for step in getattr(model, "operations", None) or model.layers:
        if getattr(step, "layers", None):
            yield from _layers(step)
        else:
            yield step


_SCALE = ("Rescaling", "Normalization", "BatchNormalization", "LayerNormalization")
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
_KEEP = (
    *("Input", "Random", "Resizing", "Center", "ZeroPadding", "Cropping", "Permute", "Reshape", "Identity"),
    *("GetItem", "Stack", "Concatenate", "Transpose", "Flip", "Dropout", "Gaussian", "Cast"),
)


def scales_itself(model: Any) -> bool:
    """Say whether a model begins by scaling what it is given: by a Rescaling, a Normalization, or arithmetic."""
    names = (type(step).__name__ for step in _layers(model))
    return next((name for name in names if not name.startswith(_KEEP)), "") in (*_SCALE, *_ARITHMETIC)


# How numbers are prepared -------------------------------------------------------------


def preparations() -> list[str]:
    """Return what `--preprocess` may be."""
    import keras

    modules = (name for name in dir(keras.applications) if name != "imagenet_utils")
    return [*_SCALINGS, *(name for name in modules if hasattr(getattr(keras.applications, name), "preprocess_input"))]


@dataclass(frozen=True)
class Preparation:
    """How the numbers of pictures are brought to those a model was trained on.

    Attributes:
        name: what `--preprocess` said; None where it said nothing.
        function: from float32 (N, H, W, C), 0 to 255, red, green, blue, to the model's numbers.
        text: the same in words.
        kind: how it is turned back to be shown, one of `KINDS`; None where none of them does.
    """

    name: str | None
    function: Function
    text: str
    kind: str | None


def preparation(name: str | None, channels: int) -> Preparation:
    """Return how pictures are prepared.

    Args:
        name: a module of ``keras.applications``, ``0-1``, ``-1-1`` or ``none``; None is ``none``.
        channels: 1 or 3.

    Raises:
        UnknownNameError: there is no such preparation.
        BadInputError: it needs three channels.
    """
    function, text = _named(name or "none")
    probe = np.arange(0, 240, 20, dtype=np.uint8).reshape(2, 2, 3)[..., :channels]
    try:
        prepared = function(probe[None].astype(np.float32))[0]
    except IndexError:
        raise BadInputError(
            f"--preprocess {name} is made for pictures in colour; the model takes one channel. Known for these: "
            f"{', '.join(_SCALINGS)}."
        ) from None
    shown = np.broadcast_to(probe, (2, 2, 3))
    kinds = KINDS if channels == 3 else KINDS[:3]
    kind = next((kind for kind in kinds if np.array_equal(as_picture(prepared, kind), shown)), None)
    return Preparation(name, function, text, kind)


def _named(name: str) -> tuple[Function, str]:
    import keras

    if name in _SCALINGS:
        return _SCALINGS[name]
    known = preparations()
    if name not in known:
        raise unknown_name("preparation", name, known)
    module = getattr(keras.applications, name)

    def function(x: np.ndarray) -> np.ndarray:
        return np.asarray(module.preprocess_input(x.copy(), data_format="channels_last"))  # it may write into x

    return function, f"values prepared as keras.applications.{name} does"


# Files --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """What a picture was before it was brought to the model's size.

    Attributes:
        size: height and width, upright.
        largest: its largest value, where it has 16 bits; else the largest that there can be.
    """

    size: tuple[int, int]
    largest: int = _LARGEST

    @property
    def dark(self) -> bool:
        """Less than a quarter of the range is used."""
        return self.largest < _LARGEST // 4


def read_picture(path: Path, frame: Frame) -> np.ndarray:
    """Read one picture: upright as its EXIF data say, on white where it is transparent, resized bilinearly.

    Args:
        path: the file.
        frame: what the model takes; open sizes leave the picture's own.

    Returns:
        uint8 array (H, W, C).

    Raises:
        BadInputError: the file is no picture, or it is damaged.
    """
    return _read(path, frame)[0]


def _read(path: Path, frame: Frame) -> tuple[np.ndarray, Original]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as opened:
            upright, deep = ImageOps.exif_transpose(opened), opened.mode.startswith("I")
            picture = _on_white(_eight_bits(upright) if deep else upright)
            largest = int(np.max(np.asarray(upright))) if deep else _LARGEST
        original = Original((picture.height, picture.width), largest)
        picture = picture.convert("L" if frame.channels == 1 else "RGB")
        size = frame.width or picture.width, frame.height or picture.height
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(size[1], size[0], frame.channels), original
    except Exception as error:  # the decoders raise many kinds
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadInputError:
    why = " ".join(str(error).split())
    return BadInputError(f"{path} cannot be read: it is no PNG or JPEG picture, or it is damaged ({why}).")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits with 8, which Pillow would cut at 255."""
    from PIL import Image

    return Image.fromarray(np.rint(np.asarray(picture, dtype=np.float64) / 257.0).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    """Lay a picture with transparent parts on white."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    clear = picture.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    white.alpha_composite(clear)
    return white


def _size_of(path: Path) -> tuple[int, int]:
    """Return the height and width of a picture as it stands upright, without reading its pixels."""
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION, 1) >= _TURNED
    except Exception as error:
        raise _damaged(path, error) from error
    return (width, height) if turned else (height, width)


class PictureFiles:
    """Samples (N, *S), float32, that are read from their files when they are asked for.

    Args:
        files: one picture each.
        frame: what the model takes.
        prepare: see `Preparation.function`.

    Attributes:
        originals: what those read so far were.

    Raises:
        BadInputError: the model leaves a size open and the pictures differ in it.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, files: Sequence[Path], frame: Frame, prepare: Function) -> None:
        self.files, self.frame, self.prepare = list(files), frame, prepare
        self.originals: dict[Path, Original] = {}
        height, width = frame.height, frame.width
        if height is None or width is None:
            sizes = [(height or h, width or w) for h, w in map(_size_of, self.files)]
            other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
            if other is not None:
                (h, w), (h0, w0) = sizes[other], sizes[0]
                raise BadInputError(
                    f"{self.files[other]} is {pixels(h, w)}, {self.files[0]} {pixels(h0, w0)}. The model "
                    "leaves the size open, so all pictures must have the same: resize them first."
                )
            height, width = sizes[0]
        channels = (frame.channels,)
        self.size = (height, width)
        sample = (*channels, height, width) if frame.axis == 0 else (height, width, *channels)
        self.shape = (len(self.files), *(sample if frame.axis is not None else self.size))
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        """Return N."""
        return len(self.files)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read the samples of a slice, of an array of whole numbers, or one."""
        chosen = np.arange(len(self))[index]
        files = [self.files[i] for i in np.ravel(chosen)]
        read = [_read(file, self.frame) for file in files]
        self.originals.update((file, original) for file, (_, original) in zip(files, read, strict=True))
        taken = np.stack([array for array, _ in read]).astype(np.float32)
        x = np.asarray(self.prepare(taken), dtype=np.float32)
        x = x[..., 0] if self.frame.axis is None else np.moveaxis(x, -1, 1 + self.frame.axis)
        return x if np.ndim(chosen) else x[0]

    @functools.cached_property
    def array(self) -> np.ndarray:
        """All samples; read once, as several methods ask for them."""
        return self[:]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all samples.

        Raises:
            BadInputError: one cannot be read.
        """
        return self.array.astype(self.dtype if dtype is None else dtype, copy=bool(copy))


def pictures_of(model: Any, preprocess: str | None) -> Pictures:
    """Return how pictures become a model's samples; what `--preprocess` says wrong is wrong usage."""
    from kerascope.cli.terminal import wrong_usage

    try:
        return Pictures(model, preprocess)
    except UnknownNameError as error:
        raise wrong_usage(error, "--preprocess") from error


class Pictures:
    """How files of pictures become samples of one model, and what to say about it.

    Args:
        model: the model that takes them.
        preprocess: what `--preprocess` said.

    Attributes:
        used: how those that were read were prepared; None where none were.
        said: in words, how those of DATA were read; None where DATA are no pictures.
        files: the files of DATA, by the names of the samples.
        left_out: what the folders of pictures hold besides them.

    Raises:
        UnknownNameError: there is no such preparation.
    """

    def __init__(self, model: Any, preprocess: str | None) -> None:
        self.model, self.preprocess = model, preprocess
        self.used: Preparation | None = None
        self.said: str | None = None
        self.files: dict[str, Path] = {}
        self.left_out: list[str] = []
        self._given: list[PictureFiles] = []
        self._data: PictureFiles | None = None
        if preprocess is not None:
            _named(preprocess)

    def read(self, files: Sequence[Path], *, names: Sequence[str] | None = None) -> PictureFiles:
        """Return the pictures in files as samples; those of DATA have names, and it is noted how they were read."""
        frame = frame_of(self.model)
        self.used = preparation(self.preprocess, frame.channels)
        found = PictureFiles(files, frame, self.used.function)
        self._given.append(found)
        if names is not None:
            colours = "grey" if frame.channels == 1 else "colour"
            self.said = f"{pixels(*found.size)}, {colours}; {self.used.text}"
            self.files, self._data = dict(zip(names, files, strict=True)), found
        return found

    def check_used(self) -> None:
        """Raise BadInputError where `--preprocess` was said and nothing that was read is a picture."""
        if self.preprocess is not None and self.used is None:
            raise BadInputError(
                f"--preprocess {self.preprocess} is for pictures ({', '.join(PICTURES)}), and none was given. Arrays "
                "are taken as they are: prepare them before they are saved."
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know: files left out, pictures nearly black, numbers that the model may not have been trained on."""
        return (*self._about_files(), *self._about_numbers())

    def _about_files(self) -> Iterator[str]:
        if self.left_out:
            yield (
                f"{counted(len(self.left_out), 'other file')} in the folder left out ({_listed(self.left_out)}): "
                f"{', '.join(PICTURES)} are read. Save what should be explained as one of these."
            )
        dark = {path: o.largest for given in self._given for path, o in given.originals.items() if o.dark}
        if dark:
            yield (
                f"Nearly black for the model: {counted(len(dark), 'picture')} of 16 bits "
                f"({_listed([path.name for path in dark])}) with values up to {max(dark.values())} of {_LARGEST}, as "
                f"cameras of 12 bits leave them. Multiply them to fill 0 to {_LARGEST}, or give an array."
            )

    def _about_numbers(self) -> tuple[str, ...]:
        if self.used is None or self.used.name == "none":
            return ()
        scaled = scales_itself(self.model)
        if self.used.name is None and not scaled:
            module = ", or the module of keras.applications that it comes from, as vgg16"
            what = "0-1 or -1-1" if self._given[0].frame.channels == 1 else f"0-1, -1-1{module}"
            return (
                "The pictures were given as values 0 to 255, and the model does not begin with a Rescaling or "
                f"Normalization. If it was trained on other values, its answer means nothing: say --preprocess {what} "
                "(none: these values are right).",
            )
        if self.used.name is not None and scaled and self.used.kind != "0..255":
            return (
                f"The pictures were prepared ({self.used.name}), and the model begins by scaling them itself. Leave "
                "--preprocess out unless it was trained that way.",
            )
        return ()

    def noted(self, e: Explanation) -> Explanation:
        """Return an explanation that says how its pictures were read, by which they are shown as they were."""
        return dataclasses.replace(e, attrs=self._attrs(e), warnings=[*e.warnings, *self.warnings])

    def noted_evidence(self, found: Evidence) -> Evidence:
        """Return evidence that says how its pictures were read."""
        maps = dataclasses.replace(found.explanation, attrs=self._attrs(found.explanation))
        return dataclasses.replace(found, explanation=maps, warnings=[*found.warnings, *self.warnings])

    def _attrs(self, e: Explanation) -> dict[str, Any]:
        if self.used is None or self._data is None:
            return e.attrs
        sizes = {}
        for name in map(str, e.coords.get("sample", ())):
            original = self._data.originals.get(self.files.get(name, Path()))
            if original is not None and original.size != self._data.size:
                sizes[name] = list(original.size)
        said = {"name": self.used.name or "none", "kind": self.used.kind, "text": self.said, SIZES: sizes}
        return {**e.attrs, PREPARED: said}


def _listed(names: Sequence[str], most: int = 8) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
