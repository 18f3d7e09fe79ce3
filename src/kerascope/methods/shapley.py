"""Shapley values of cells, rows, columns, blocks or any groups: exact, by regression, by permutations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kerascope.errors import BadInputError, whole
from kerascope.groups import Groups
from kerascope.methods.base import Attribution, Batch
from kerascope.methods.coalitions import CoalitionMethod, Game
from kerascope.methods.sampling import Moments
from kerascope.methods.session import Session

MOST_PLAYERS = 16
"""Exact enumeration asks about 2^G coalitions: 65536 with so many players."""

_SATURATED = 1 - 1e-6
"""Above this share of a pair the fit follows it, and says nothing about its error."""

_SMALL = 2**26
"""A regression of so many bytes is solved whatever the memory budget is."""

_SHARE = 8
"""Coalitions are written down in pieces of this part of the memory budget."""


@dataclass(frozen=True)
class _Shapley(CoalitionMethod):
    """Base of the Shapley methods: values add up to f(x) - mean f(baselines)."""

    promise: ClassVar[str] = "the explained number less its mean at the fills"
    axioms: ClassVar[tuple[str, ...]] = ("completeness", "implementation invariance", "linearity", "shift invariance")

    @property
    def exact_on_linear(self) -> bool:
        """See `Method.exact_on_linear`; of larger groups every cell gets an even part."""
        return isinstance(self.groups, str) and self.groups == "cells"


@dataclass(frozen=True)
class ExactShapley(_Shapley):
    """Shapley values by asking about every coalition; at most 16 players.

    phi_i = sum over coalitions S without i of |S|! (G - |S| - 1)! / G! (v(S + i) - v(S)), v(S) the mean over fills of
    the explained number with everybody outside S replaced.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        fill: another name for ``baseline``.

    Reference: Shapley 1953, "A value for n-person games", Contributions to the Theory of Games II.
    """

    called: ClassVar[str] = "shapley_exact"
    question: ClassVar[str] = "How much does this part add to the output, averaged over all orders in which parts join?"
    paper: ClassVar[str] = "Shapley 1953, Contributions to the Theory of Games II"
    axioms: ClassVar[tuple[str, ...]] = (*_Shapley.axioms, "sensitivity", "dummy", "symmetry")

    def check_players(self, session: Session, groups: Groups) -> None:
        """See `CoalitionMethod.check_players`."""
        if groups.count > MOST_PLAYERS:
            raise BadInputError(
                f"shapley_exact asks about 2^{groups.count} coalitions; at most {MOST_PLAYERS} players are taken. "
                "Group cells (groups='rows', 'columns', ('blocks', (h, w)), or labels), or use shapley_sampling or "
                "kernel_shap."
            )

    def is_exact(self, groups: Groups) -> bool:
        """See `CoalitionMethod.is_exact`."""
        return True

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        game = self.game(session, batch)
        count = game.count
        codes = np.arange(2**count)
        present = (codes[:, None] >> np.arange(count) & 1).astype(bool)
        v = game.values(present)
        size = present.sum(axis=1)
        weight = np.array([math.factorial(s) * math.factorial(count - s - 1) for s in range(count)]) / math.factorial(
            count
        )
        values = np.empty((*v.shape[1:], count))
        for player in range(count):
            without = codes[~present[:, player]]
            gain = v[without + (1 << player)] - v[without]
            values[..., player] = np.tensordot(weight[size[without]], gain, axes=1)
        return self.attribution(game, values, None)


@dataclass(frozen=True)
class ShapleySampling(_Shapley):
    """Shapley values from random orders: what a player adds when it joins those before it, averaged.

    Orders come in pairs, each with its reverse, and the fills share the pairs out evenly, one at least for each. The
    values are the mean over fills of the mean over a fill's pairs. Every order telescopes, so they add up to
    f(x) - mean f(fills) for any number of draws. The standard error is that of the orders, from the spread of pairs
    within each fill: the fills themselves are given, not sampled. With less than two pairs for each fill it is that of
    independent pairs, which is larger.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        draws: how many orders, and at least two for each fill; each costs as many passes as there are players.
        fill: another name for ``baseline``.

    Reference: Strumbelj and Kononenko 2014, "Explaining prediction models and individual predictions with feature
    contributions", Knowledge and Information Systems 41.
    """

    draws: int = 200

    called: ClassVar[str] = "shapley_sampling"
    question: ClassVar[str] = "How much does this part add to the output, averaged over random orders of joining?"
    paper: ClassVar[str] = "Strumbelj and Kononenko 2014, KAIS 41: 647-665"
    axioms: ClassVar[tuple[str, ...]] = (*_Shapley.axioms, "dummy")

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        whole(self.draws, "draws", 1)

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        game = self.game(session.quiet, batch)
        fills, rows, done = len(game.fills), np.arange(len(batch)), 0
        shape = (len(batch), batch.selection.count, game.count)
        every, mean, within = Moments(shape), np.zeros(shape), np.zeros(shape)
        orders = max(self.draws, 2 * fills)
        pairs, turns = self._pairs(batch.seed, game.count, orders), _shared_out(-(-orders // 2), fills)
        for fill, turn in enumerate(turns):
            own = Moments(shape)
            for number, pair in enumerate(itertools.islice(pairs, turn)):
                gains = np.mean([self._gains(game, order, fill) for order in pair], axis=0)
                own.add(np.full(len(rows), number), rows, gains)
                every.add(np.full(len(rows), done), rows, gains)
                done += 1
                session.told(done / sum(turns))
            mean += own.mean(turn) / fills
            within += np.square(own.error(turn))
        if min(turns) < 2:
            within = np.square(every.error(done)) * done * sum(1 / turn for turn in turns)
        return self.attribution(game, mean, np.sqrt(within) / fills)

    def _pairs(self, seed: int, count: int, orders: int) -> Iterator[list[np.ndarray]]:
        """Yield so many orders in pairs; an odd one is left over at the end."""
        rng = np.random.default_rng((seed, 2))
        for first in range(0, orders, 2):
            order = rng.permutation(count)
            yield [order, order[::-1]][: orders - first]

    def _gains(self, game: Game, order: np.ndarray, fill: int) -> np.ndarray:
        """Return what each player adds when players join in an order (B, T, G)."""
        place, most = np.argsort(order), max(1, game.session.memory // _SHARE // len(order))
        values = [game.nobody[fill][None]]
        for first in range(1, len(order), most):
            joined = np.arange(first, min(first + most, len(order)))
            values.append(game.values(place[None, :] < joined[:, None], np.full(len(joined), fill)))
        steps = np.concatenate([*values, game.whole[None]])
        gains = np.empty((*steps.shape[1:], len(order)))
        gains[..., order] = np.moveaxis(np.diff(steps, axis=0), 0, -1)
        return gains


@dataclass(frozen=True)
class KernelSHAP(_Shapley):
    """Shapley values by weighted regression on coalitions.

    Minimises sum over coalitions z of k(z) (v(z) - v(nobody) - z . phi)^2 with k(z) = (G - 1) / (C(G, s) s (G - s)), s
    the size of z, under sum phi = f(x) - v(nobody), which holds exactly for any number of draws. All coalitions are
    asked about where there are no more than ``draws`` of them: then the values are exact. Else coalitions are drawn in
    pairs, each with its complement, sizes in proportion to the kernel. No player is left out beforehand (feature
    selection, as some toolboxes do it, is not the Shapley value). The standard error is that of the regression, pairs
    taken as independent.

    Args:
        groups: who the players are: ``"cells"``, ``"rows"``, ``"columns"``, ``("blocks", (h, w))`` or an int array.
        baseline: what stands for an absent player, as in `IntegratedGradients`; None: background samples' values at the
            same cells.
        fills: how many background samples are used, drawn from the seed; None: all of them.
        draws: how many coalitions; None: 2 G + 2048. Each costs as many passes as there are fills.
        fill: another name for ``baseline``.

    Reference: Lundberg and Lee 2017, "A unified approach to interpreting model predictions", NeurIPS.
    """

    draws: int | None = None

    called: ClassVar[str] = "kernel_shap"
    question: ClassVar[str] = "How much does this part add to the output, averaged over coalitions of the others?"
    paper: ClassVar[str] = "Lundberg and Lee 2017, NeurIPS"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.draws is not None:
            whole(self.draws, "draws", 2)

    def check_players(self, session: Session, groups: Groups) -> None:
        """See `CoalitionMethod.check_players`."""
        size = 8 * self._draws(groups.count) * groups.count
        if size > max(session.memory, _SMALL):
            raise BadInputError(
                f"kernel_shap over {groups.count} players solves a system of {size / 2**30:.1f} GiB, above the memory "
                "budget. Group cells (groups='rows', ('blocks', (h, w)), or labels), or use shapley_sampling."
            )

    def is_exact(self, groups: Groups) -> bool:
        """See `CoalitionMethod.is_exact`."""
        return groups.count < 62 and 2**groups.count - 2 <= self._draws(groups.count)

    def _draws(self, count: int) -> int:
        return 2 * count + 2048 if self.draws is None else self.draws

    def attribute(self, session: Session, batch: Batch) -> Attribution:
        """See `Method.attribute`."""
        game = self.game(session, batch)
        exact = self.is_exact(game.groups)
        if game.count == 1:
            return self.attribution(game, (game.whole - game.nobody.mean(axis=0))[..., None], None)
        present, weight = _all(game.count) if exact else _drawn(game.count, self._draws(game.count), batch.seed)
        base = game.nobody.mean(axis=0)
        answers = game.values(present) - base
        values, error, rank = solve(present.astype("float64"), weight, answers, game.whole - base)
        notes: tuple[str, ...] = ()
        if rank < game.count - 1:
            notes = (
                f"As few as {len(present)} coalitions do not settle {game.count} players: of the solutions the "
                "smallest was taken. Give more draws, or group cells.",
            )
        return self.attribution(game, values, None if exact else error, notes)


def _shared_out(count: int, parts: int) -> list[int]:
    """Return whole numbers that add up to a count, one for each part, as even as can be."""
    return [(part + 1) * count // parts - part * count // parts for part in range(parts)]


def _all(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every coalition but nobody and everybody, and the kernel's weights."""
    codes = np.arange(1, 2**count - 1)
    present = (codes[:, None] >> np.arange(count) & 1).astype(bool)
    size = present.sum(axis=1)
    weight = np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in range(1, count)])
    return present, weight[size - 1]


def _drawn(count: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions in pairs with their complements, sizes drawn in proportion to the kernel's mass."""
    rng = np.random.default_rng((seed, 2))
    sizes = np.arange(1, count)
    mass = 1 / (sizes * (count - sizes))
    drawn = rng.choice(sizes, size=-(-draws // 2), p=mass / mass.sum())
    first = np.array([rng.permutation(count) < size for size in drawn])
    present = np.stack([first, ~first], axis=1).reshape(-1, count)[:draws]
    return present, np.ones(len(present))


def solve(
    present: np.ndarray, weight: np.ndarray, answers: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Solve the regression under the constraint that values add up; the last player is eliminated.

    Args:
        present: (D, G).
        weight: (D,).
        answers: v(z) - v(nobody), (D, B, T).
        total: what the values add up to (B, T).

    Returns:
        Values and standard errors (B, T, G), and the rank of the system, G - 1 where it has one solution.
    """
    draws, count = present.shape
    root = np.sqrt(weight)[:, None]
    matrix = root * (present[:, :-1] - present[:, -1:])
    right = (answers - present[:, -1, None, None] * total).reshape(draws, -1) * root
    solution, _, rank, _ = np.linalg.lstsq(matrix, right, rcond=None)
    values = np.concatenate([solution, total.reshape(1, -1) - solution.sum(axis=0)])
    error = np.full(values.shape, np.nan)
    if draws > count - 1 and rank == count - 1:
        error = _errors(matrix, right - matrix @ solution)
    shape = (count, *total.shape)
    return np.moveaxis(values.reshape(shape), 0, -1), np.moveaxis(error.reshape(shape), 0, -1), int(rank)


def _errors(matrix: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return the standard errors of a regression on pairs of complements (G, R), nan where it fits every pair.

    The two of a pair miss in the same direction, which cancels in odd parts: pairs, not single draws, are independent.
    Residuals are corrected for the part of each pair that the fit takes up (HC2, MacKinnon and White 1985).
    """
    inverse = np.linalg.inv(matrix.T @ matrix)
    starts = np.arange(0, len(matrix), 2)
    taken = np.add.reduceat(np.sum(matrix @ inverse * matrix, axis=1), starts)
    found = np.full((matrix.shape[1] + 1, residuals.shape[1]), np.nan)
    if np.max(taken) > _SATURATED:
        return found
    for column, missed in enumerate(residuals.T):
        pairs = np.add.reduceat(matrix * missed[:, None], starts, axis=0) / np.sqrt(1 - taken)[:, None]
        pulled = pairs @ inverse
        found[:-1, column] = np.square(pulled).sum(axis=0)
        found[-1, column] = np.square(pulled.sum(axis=1)).sum()
    return np.asarray(np.sqrt(found))
