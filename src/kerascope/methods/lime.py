"""LIME: a weighted linear model of the output in the presence of players."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from kerascope.errors import BadInputError, finite, whole
from kerascope.methods.base import Attribution, Batch
from kerascope.methods.coalitions import CoalitionMethod
from kerascope.methods.session import Session


@dataclass(frozen=True)
class LIME(CoalitionMethod):
    """LIME: the coefficients of a linear model of the output, fitted to random coalitions near the whole.

    Every player is present with chance 1/2; coalitions weigh exp(-d^2 / width^2), d their distance from everybody:
    ``"cosine"``: 1 - sqrt(s / G), s the number present; ``"euclidean"``: sqrt((G - s) / G). The coefficients (with a
    free intercept) minimise the weighted squared error plus ``ridge`` times their squared sum; without a ridge it is
    plain weighted least squares. Coefficients are no contributions and add up to nothing. The standard error is that of
    the regression.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array; a
            group's coefficient stands in each of its cells.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        draws: how many coalitions.
        width: of the kernel.
        distance: ``"cosine"`` or ``"euclidean"``.
        ridge: weight of the coefficients' squares.
        fill: another name for ``baseline``.

    Reference: Ribeiro et al. 2016, "Why should I trust you? Explaining the predictions of any classifier", KDD.
    """

    draws: int = 1000
    width: float = 0.25
    distance: Literal["cosine", "euclidean"] = "cosine"
    ridge: float = 0.0

    called: ClassVar[str] = "lime"
    question: ClassVar[str] = "Which parts' presence does a linear model of the output rely on, near this sample?"
    paper: ClassVar[str] = "Ribeiro et al. 2016, KDD"
    additive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        whole(self.draws, "draws", 2)
        if finite(self.width, "width") <= 0 or finite(self.ridge, "ridge") < 0:
            raise BadInputError(f"lime needs width above 0 and ridge at least 0; got {self.width} and {self.ridge}.")
        if self.distance not in ("cosine", "euclidean"):
            raise BadInputError(f"distance must be 'cosine' or 'euclidean'; got {self.distance!r}.")

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        game = self.game(session, batch)
        present = np.random.default_rng((batch.seed, 2)).random((self.draws, game.count)) < 0.5
        values, error, rank = self.fit(present, game.values(present))
        notes: tuple[str, ...] = ()
        if rank < game.count + 1:
            notes = (
                f"As few as {self.draws} coalitions do not settle the coefficients of {game.count} players: of the "
                "solutions the smallest was taken. Give more draws, a ridge, or group cells.",
            )
        return self.attribution(game, values, error, notes)

    def weights(self, present: np.ndarray) -> np.ndarray:
        """Return the weight of each coalition (D,)."""
        share = present.mean(axis=1)
        d = 1 - np.sqrt(share) if self.distance == "cosine" else np.sqrt(1 - share)
        return np.asarray(np.exp(-np.square(d) / self.width**2))

    def fit(self, present: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Return coefficients and their standard errors (B, T, G), and the rank, G + 1 where they are settled."""
        draws, count = present.shape
        root = np.sqrt(self.weights(present))[:, None]
        matrix = root * np.concatenate([np.ones((draws, 1)), present], axis=1)
        right = root * answers.reshape(draws, -1)
        penalty = np.sqrt(self.ridge) * np.eye(count + 1)[1:]
        stacked = np.concatenate([matrix, penalty]) if self.ridge else matrix
        target = np.concatenate([right, np.zeros((count, right.shape[1]))]) if self.ridge else right
        solution, _, rank, _ = np.linalg.lstsq(stacked, target, rcond=None)
        free = draws - (count + 1)
        error = np.full(solution.shape, np.nan)
        if free > 0 and rank == count + 1:
            # Weights are no inverse variances: a sandwich, residuals corrected for what the fit takes up (HC2).
            inverse = np.linalg.inv(stacked.T @ stacked)
            taken = np.minimum(np.sum(matrix @ inverse * matrix, axis=1), 1 - 1e-9)
            missed = np.square(right - matrix @ solution) / (1 - taken)[:, None]
            error = np.sqrt(np.square(matrix @ inverse).T @ missed)
        shape = (count, *answers.shape[1:])
        return np.moveaxis(solution[1:].reshape(shape), 0, -1), np.moveaxis(error[1:].reshape(shape), 0, -1), int(rank)
