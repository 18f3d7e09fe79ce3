"""One self-contained HTML file that shows what was explained: :func:`report`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

__all__ = ["report"]


def report(
    explanations: Explanation | Iterable[Explanation],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    overwrite: bool = False,
    truth: Any = None,
    samples: Sequence[int] | None = None,
) -> Path:
    """Write a report: one HTML file that opens in any browser and loads nothing from the network.

    It shows the input beside the map with linked axes, the sums over rows and columns along the margins, the
    stretches as boxes, ranked tables, and in words what was explained, with selectors for sample, method,
    target and input.

    Args:
        explanations: one, or several of the same inputs (other methods, other targets).
        path: file to write.
        title: heading; None names the model.
        overwrite: replace a file of that name.
        truth: bool array (N, rows, columns), or (N, *S), outlined on the maps; a dict by input for models
            with several inputs.
        samples: indices of the samples to show. None takes the first 50 and says how many it leaves out.

    Returns:
        The path written.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is False. Nothing is written.
        BadInputError: something else than explanations; explanations of different inputs; ``truth`` or ``samples`` that
            do not fit them.
    """
    from kerascope.errors import BadInputError
    from kerascope.explanation import Explanation
    from kerascope.report.build import build
    from kerascope.report.html import refuse_existing, write

    refuse_existing(Path(path), overwrite)
    alone = isinstance(explanations, (Explanation, str, Mapping)) or not isinstance(explanations, Iterable)
    several: list[Any] = [explanations] if alone else list(explanations)
    for one in several:
        if not isinstance(one, Explanation):
            raise BadInputError(
                f"A report shows explanations, as ks.explain returns them; got {type(one).__name__}. Evidence and "
                "cohorts write their own: .report(path)."
            )
    return write(build(several, title=title, truth=truth, samples=samples), path, overwrite=overwrite)
