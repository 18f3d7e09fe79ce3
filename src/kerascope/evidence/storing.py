"""Evidence as a Zarr store: the explanation's, with the columns of the tables beside it."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope import store
from kerascope.evidence.record import TABLES, Evidence
from kerascope.explanation import explanation_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MARK = "kerascope_evidence"


def save(evidence: Evidence, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Save as a Zarr store, whole or not at all; see `Explanation.save`."""
    return store.write(to_dataset(evidence), path, overwrite=overwrite)


def to_dataset(evidence: Evidence) -> xr.Dataset:
    """Return the explanation's dataset with a variable ``<table>.<column>`` for every column.

    Words and times are stored as codes; what they stand for is in the attributes.
    """
    import pandas as pd

    dataset = evidence.explanation.to_xarray()
    words: dict[str, list[Any]] = {}
    times: dict[str, str] = {}
    for name in TABLES:
        table: pd.DataFrame = getattr(evidence, name)
        for column in table.columns:
            key, values = f"{name}.{column}", table[column].to_numpy()
            if values.dtype.kind in "Mm":
                times[key] = values.dtype.str
            if values.dtype.kind not in "biuf":
                values, known = pd.factorize(values)
                words[key] = [_plain(word) for word in known]
            dataset[key] = ((f"{name}.line",), values)
    said = {
        "tables": {
            name: [list(getattr(evidence, name).columns), dict(getattr(evidence, name).attrs)] for name in TABLES
        },
        "words": words,
        "times": times,
        "classes": evidence.classes,
        "warnings": list(evidence.warnings),
        "attrs": evidence.attrs,
    }
    dataset.attrs[MARK] = store.to_json(said)
    return dataset


def open_evidence(path: str | os.PathLike[str]) -> Evidence:
    """Open what `save` wrote: the tables at once, the maps when they are first touched.

    Raises:
        BadInputError: there is no such store, or it is damaged.
    """
    place = os.path.abspath(path)
    check = functools.partial(store.check_stamp, place, store.stamp(place))
    dataset = store.read(place)
    said = store.from_json(dataset.attrs.pop(MARK))
    tables = {name: _table(name, dataset, said, *said["tables"][name]) for name in TABLES}
    own = [f"{name}.{column}" for name in TABLES for column in said["tables"][name][0]]
    return Evidence(
        **tables,
        explanation=explanation_of(dataset.drop_vars(own), place, check),
        classes=np.asarray(said["classes"]),
        warnings=list(said["warnings"]),
        attrs=dict(said["attrs"]),
    )


def _table(
    name: str, dataset: xr.Dataset, said: dict[str, Any], columns: list[str], attrs: dict[Any, Any]
) -> pd.DataFrame:
    import pandas as pd

    found: dict[str, Any] = {}
    for column in columns:
        key = f"{name}.{column}"
        values = np.asarray(dataset[key].values)
        if key in said["words"]:
            words = [_word(word) for word in said["words"][key]]
            values = np.array([*words, None], dtype=object)[values]
        if key in said.get("times", {}):
            values = values.astype(said["times"][key])
        found[column] = values
    table = pd.DataFrame(found)
    table.attrs = attrs
    return table


def _plain(word: Any) -> Any:
    """Return a time, as of an axis with times, as a dict with its number and dtype; anything else as it is."""
    time = word.to_numpy() if hasattr(word, "to_numpy") else word
    if not isinstance(time, np.datetime64 | np.timedelta64):
        return word
    return {"time": int(time.astype(np.int64)), "dtype": time.dtype.str}


def _word(plain: Any) -> Any:
    """Return what `_plain` was given; times as pandas has them."""
    import pandas as pd

    if not isinstance(plain, dict):
        return plain
    dtype = np.dtype(plain["dtype"])
    time = np.int64(plain["time"]).view(dtype)
    return pd.Timestamp(time) if dtype.kind == "M" else pd.Timedelta(time)
