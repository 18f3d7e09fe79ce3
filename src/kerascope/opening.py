"""`open`: any saved result, whatever it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kerascope import store
from kerascope.explanation import Explanation, open_explanation

if TYPE_CHECKING:
    from kerascope.evidence.record import Evidence


def open(path: str | os.PathLike[str]) -> Explanation | Evidence:
    """Open a saved result: an `Explanation` or `Evidence`; arrays are read when they are first touched.

    Args:
        path: the folder that ``.save()`` wrote.

    Raises:
        BadInputError: there is no store, it is not one of kerascope's, it is incomplete or damaged.

    Example:
        >>> import kerascope as ks, tempfile, pathlib
        >>> data = ks.datasets.planted(2, seed=1)
        >>> model = ks.load_model(ks.datasets.demo_file("planted.keras"))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "map.zarr"
        >>> _ = ks.explain(model, data.x[..., None], "gradient").save(path)
        >>> open(path).method_name
        'gradient'
    """
    from kerascope.evidence import storing

    if storing.MARK in store.read(path).attrs:
        return storing.open_evidence(path)
    return open_explanation(path)
