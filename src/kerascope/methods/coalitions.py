"""What Shapley methods and LIME share: players, and the model's answers when some of them are absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kerascope import groups as grouping
from kerascope.groups import Groups
from kerascope.methods.base import Attribution, Batch
from kerascope.methods.fills import Fills, Replacing
from kerascope.methods.path import are_baselines, said_of_baselines
from kerascope.methods.perturbation import channel_axis_of
from kerascope.methods.session import Session


@dataclass(frozen=True, eq=False)
class Game:
    """One batch as a game: players are groups of cells, absent ones take the values of the fills.

    ``whole`` (B, T): the explained numbers with everybody present; ``nobody`` (F, B, T): with nobody, by fill.
    """

    session: Session
    batch: Batch
    groups: Groups
    fills: Fills
    whole: np.ndarray
    nobody: np.ndarray
    logits: list[np.ndarray]

    @property
    def count(self) -> int:
        """The number of players G."""
        return self.groups.count

    def values(self, present: np.ndarray, fill: np.ndarray | None = None) -> np.ndarray:
        """Return the explained numbers of coalitions (D, B, T).

        Args:
            present: bool (D, G): who takes part in each.
            fill: int (D,): which fill stands for the absent in each; None: the mean over all fills.
        """
        (x,) = self.batch.inputs
        rows, fills = len(self.batch), len(self.fills) if fill is None else 1
        found = np.zeros((len(present), rows, self.batch.selection.count))
        cells = self.groups.cells
        for draws, index in self.session.pairs(len(present) * fills, rows):
            which = draws // fills
            chosen = draws % fills if fill is None else fill[which]
            shown = present[which][:, cells]
            changed = np.where(shown, x[index], self.fills.values[chosen])
            selection = self.batch.selection.rows(index)
            numbers = selection.numbers_own(self.session.logits((changed,), selection))
            np.add.at(found, (which, index), numbers / fills)
        return found


@dataclass(frozen=True)
class CoalitionMethod(Replacing):
    """Base of the methods that ask the model about coalitions of players.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        fill: another name for ``baseline``.
    """

    groups: Any = "cells"
    baseline: Any = None
    fills: int | None = None
    fill: Any = field(default=None, kw_only=True)

    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields."""
        self.check_fields()

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        self.check_single(session)
        self.fills_of(session, 0)
        self.check_players(session, self.players(session))

    def check_players(self, session: Session, groups: Groups) -> None:
        """Raise BadInputError if there are too many players for the method."""

    def depends_on_seed(self, session: Session) -> bool:
        """See `Method.depends_on_seed`: where coalitions, or background samples, are drawn."""
        return self.draws_fills(session) or not self.is_exact(self.players(session))

    def is_exact(self, groups: Groups) -> bool:
        """Whether every coalition is asked about, so that nothing is drawn."""
        return False

    def players(self, session: Session) -> Groups:
        """Return who moves together."""
        (shape,) = session.shapes
        return grouping.resolve(self.groups, shape, channel_axis_of(shape, session))

    def game(self, session: Session, batch: Batch) -> Game:
        """Return the game of one batch."""
        batch = batch.settled(session)
        fills = self.fills_of(session, batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        whole = batch.selection.numbers_own(logits)
        of_fills = session.logits((fills.values,), _any_rows(batch, len(fills)))
        nobody = np.moveaxis(batch.selection.numbers(of_fills), -1, 0)
        return Game(session, batch, self.players(session), fills, whole, np.asarray(nobody), logits)

    def attribution(
        self, game: Game, values: np.ndarray, error: np.ndarray | None, notes: tuple[str, ...] = ()
    ) -> Attribution:
        """Return the result from the players' values (B, T, G) and their standard errors."""
        dtype, shape, fills = game.session.view.dtype, game.session.shapes[0], game.fills
        at_baseline = np.asarray(game.nobody.mean(axis=0))
        complete = self.additive
        same = are_baselines(game.batch.inputs, (fills.values,))[:, None, None]  # whatever rounding says
        values, error = np.where(same, 0, values), None if error is None else np.where(same, 0, error)
        said = fills.notes
        if said and error is not None:
            said = tuple(f"{text} standard_error does not include which were drawn." for text in said)
        return Attribution(
            values=(self._over_cells(game.groups, values, shape).astype(dtype),),
            expected=game.whole - at_baseline if complete else None,
            absorbed=np.zeros_like(at_baseline) if complete else None,
            explained=game.whole,
            logits=game.logits,
            group_values=None if isinstance(self.groups, str) and self.groups == "cells" else values.astype(dtype),
            standard_error=None if error is None else (self._over_cells(game.groups, error, shape).astype(dtype),),
            baseline=(fills.values,),
            baseline_text=fills.text,
            baseline_output=at_baseline,
            warnings=(*said_of_baselines(game.batch.inputs, (fills.values,)), *said, *notes),
        )

    def _over_cells(self, groups: Groups, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Give every cell its group's value, or an even part of it where values add up."""
        labels = np.broadcast_to(groups.cells, shape)
        if self.additive:
            values = values / np.bincount(labels.ravel(), minlength=groups.count)
        return np.asarray(values[..., labels])


def _any_rows(batch: Batch, count: int) -> Any:
    return batch.selection.rows(np.zeros(count, int))
