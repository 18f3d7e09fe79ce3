"""What Shapley methods and LIME share: players, and the model's answers when some of them are absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerascope import baseline as baselines
from kerascope import groups as grouping
from kerascope.errors import IncompatibleMethodError, counted, whole
from kerascope.groups import Groups
from kerascope.methods.base import Attribution, Batch, Method
from kerascope.methods.path import refuse_baselines, said_of_baselines
from kerascope.methods.perturbation import channel_axis_of
from kerascope.methods.session import Session


@dataclass(frozen=True, eq=False)
class Game:
    """One batch as a game: players are groups of cells, absent ones take the values of the fills.

    ``fills`` (F, *S); ``whole`` (B, T): the explained numbers with everybody present; ``nobody`` (F, B, T): with
    nobody, by fill.
    """

    session: Session
    batch: Batch
    groups: Groups
    fills: np.ndarray
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
            changed = np.where(shown, x[index], self.fills[chosen])
            selection = self.batch.selection.rows(index)
            numbers = selection.numbers_own(self.session.logits((changed,), selection))
            np.add.at(found, (which, index), numbers / fills)
        return found


@dataclass(frozen=True)
class CoalitionMethod(Method):
    """Base of the methods that ask the model about coalitions of players.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells (at most ``fills`` of them, drawn from the seed).
        fills: how many background samples are used.
    """

    groups: Any = "cells"
    baseline: Any = None
    fills: int = 16

    family: ClassVar[str] = "perturbation"
    needs: ClassVar[str] = "a baseline or background samples; one input"
    stochastic: ClassVar[bool] = True
    additive: ClassVar[bool] = True
    called: ClassVar[str] = ""
    """The method's name, for messages."""

    def __post_init__(self) -> None:
        """Check the fields."""
        whole(self.fills, "fills", 1)

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        count = len(session.view.signature.specs)
        if count > 1:
            raise IncompatibleMethodError(
                f"{self.called} works on models with one input; this one has {count}. Use integrated_gradients or lrp."
            )
        self.fills_of(session, 0)
        self.check_players(session, self.players(session))

    def check_players(self, session: Session, groups: Groups) -> None:
        """Raise BadInputError if there are too many players for the method."""

    def check_inputs(self, session: Session, inputs: Sequence[np.ndarray]) -> None:
        """See `Method.check_inputs`."""
        refuse_baselines(inputs, (self.fills_of(session, 0)[0],))

    def depends_on_seed(self, session: Session) -> bool:
        """See `Method.depends_on_seed`: where coalitions, or background samples, are drawn."""
        return self.draws_fills(session) or not self.is_exact(self.players(session))

    def draws_fills(self, session: Session) -> bool:
        """Whether there are more background samples than are used."""
        return self.baseline is None and session.background is not None and self.fills < len(session.background[0])

    def is_exact(self, groups: Groups) -> bool:
        """Whether every coalition is asked about, so that nothing is drawn."""
        return False

    def players(self, session: Session) -> Groups:
        """Return who moves together."""
        (shape,) = session.shapes
        return grouping.resolve(self.groups, shape, channel_axis_of(shape, session))

    def fills_of(self, session: Session, seed: int) -> tuple[np.ndarray, str]:
        """Return what stands for absent players (F, *S), and in words."""
        asked = baselines.Asked(self.called, cells=True)
        if self.baseline is not None or session.background is None:
            if self.baseline is None:
                raise asked.missing()
            resolved, text = baselines.resolve(self.baseline, session.view, session.background, session.shapes, asked)
            return resolved[0], text
        pool = session.background[0]
        chosen = np.random.default_rng((seed, 1)).choice(len(pool), min(self.fills, len(pool)), replace=False)
        return pool[np.sort(chosen)], counted(len(chosen), "background sample")

    def game(self, session: Session, batch: Batch) -> tuple[Game, str]:
        """Return the game of one batch, and the fills in words."""
        batch = batch.settled(session)
        fills, text = self.fills_of(session, batch.seed)
        logits = session.logits(batch.inputs, batch.selection)
        whole = batch.selection.numbers_own(logits)
        nobody = np.moveaxis(batch.selection.numbers(session.logits((fills,), _any_rows(batch, len(fills)))), -1, 0)
        return Game(session, batch, self.players(session), fills, whole, np.asarray(nobody), logits), text

    def attribution(
        self, game: Game, text: str, values: np.ndarray, error: np.ndarray | None, notes: tuple[str, ...] = ()
    ) -> Attribution:
        """Return the result from the players' values (B, T, G) and their standard errors."""
        dtype, shape = game.session.view.dtype, game.session.shapes[0]
        at_baseline = self.at_baseline(game)
        complete = self.additive
        return Attribution(
            values=(self._over_cells(game.groups, values, shape).astype(dtype),),
            expected=game.whole - at_baseline if complete else None,
            absorbed=np.zeros_like(at_baseline) if complete else None,
            explained=game.whole,
            logits=game.logits,
            group_values=None if isinstance(self.groups, str) and self.groups == "cells" else values.astype(dtype),
            standard_error=None if error is None else (self._over_cells(game.groups, error, shape).astype(dtype),),
            baseline=(game.fills[self.used(game)],),
            baseline_text=text,
            baseline_output=at_baseline,
            warnings=(*said_of_baselines(game.batch.inputs, (game.fills,)), *notes),
        )

    def used(self, game: Game) -> np.ndarray:
        """Return which fills stand for nobody in the mean, int (M,): each as often as it was used."""
        return np.arange(len(game.fills))

    def at_baseline(self, game: Game) -> np.ndarray:
        """Return the mean of the explained numbers with nobody present (B, T)."""
        return np.asarray(game.nobody[self.used(game)].mean(axis=0))

    def _over_cells(self, groups: Groups, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Give every cell its group's value, or an even part of it where values add up."""
        labels = np.broadcast_to(groups.cells, shape)
        if self.additive:
            values = values / np.bincount(labels.ravel(), minlength=groups.count)
        return np.asarray(values[..., labels])


def _any_rows(batch: Batch, count: int) -> Any:
    return batch.selection.rows(np.zeros(count, int))
