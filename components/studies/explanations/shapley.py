"""Values of the players of a cooperative game, exact and estimated: Banzhaf's and Shapley's.

n players, m coalitions: bool (m, n), who is in. Values are float64 (n,). Player i's marginal contribution to
a coalition z is v(z with i) - v(z without i). Banzhaf's value is its mean where each other player is in with
probability 1/2; Shapley's where that probability is itself uniform in [0, 1], so that all sizes are equally
likely (Owen 1972). The first is what EAC's code estimates under the name of the second. Equations:
docs/methods/explanations.md, "Banzhaf and Shapley values".
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import gammaln

Value = Literal["banzhaf", "shapley"]
Sizes = Literal["bernoulli", "uniform"]  # each bit with chance 1/2, or with a chance drawn for each coalition
# each coalition on its own; every second one the complement of the one before; the points of a scrambled
# Sobol sequence (Owen 1997), which are spread so evenly that interactions of few players cancel. Its first
# bits are a linear code, though: in a few thousand bernoulli coalitions interactions pass for single players
Draw = Literal["independent", "antithetic", "sobol"]
Choice = Literal["top", "top_k", "above_share"]
Coalitions = NDArray[np.bool_]
Floats = NDArray[np.float64]
MAX_PLAYERS = 20  # of exact values: a million coalitions
BLOCK = 2048  # coalitions at once
RATES = (1, 2, 4, 8, 16)  # of a Gaussian process: from games that are all but additive to rough ones
JITTER = 1e-4  # of the prior variance, for the Cholesky decomposition
SIZES: dict[Value, Sizes] = {"banzhaf": "bernoulli", "shapley": "uniform"}


class Game:
    """A game by its characteristic function: coalitions (m, n) -> numbers (m,)."""

    def __init__(self, function: Callable[[Coalitions], NDArray[np.floating]]) -> None:
        self._function = function

    def __call__(self, coalitions: Coalitions) -> Floats:
        return np.asarray(self._function(coalitions), np.float64)

    def marginals(self, coalitions: Coalitions) -> Floats:
        """Every player's marginal contribution to every coalition, (m, n): from m (n + 1) values of the game,
        unless its form is known."""
        m, n = coalitions.shape
        flipped = (coalitions[:, None, :] ^ np.eye(n, dtype=bool)).reshape(m * n, n)
        change = self(flipped).reshape(m, n) - self(coalitions)[:, None]
        return np.where(coalitions, -change, change)


def draw(n: int, m: int, sizes: Sizes, stream: np.random.Generator, how: Draw = "independent") -> Coalitions:
    """m random coalitions."""
    if how == "sobol":
        from scipy.stats import qmc  # seconds to import

        points = qmc.Sobol(n + 1, scramble=True, rng=stream).random_base2((m - 1).bit_length())[:m]
        return points[:, 1:] < (points[:, :1] if sizes == "uniform" else 0.5)
    drawn = -(-m // 2) if how == "antithetic" else m
    chance = stream.random((drawn, 1), np.float32) if sizes == "uniform" else np.float32(0.5)
    bits = stream.random((drawn, n), np.float32) < chance
    return np.stack([bits, ~bits], axis=1).reshape(-1, n)[:m] if how == "antithetic" else bits


def every_coalition(n: int) -> Coalitions:
    """All 2^n of them; player i is in coalition c if bit i of c is set."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


def exact(game: Game, n: int, value: Value) -> Floats:
    """By enumeration. Raises ValueError for more than MAX_PLAYERS."""
    if n > MAX_PLAYERS:
        raise ValueError(f"exact values of {n} players: at most {MAX_PLAYERS}")
    codes = np.array_split(np.arange(2**n), -(-(2**n) // BLOCK))
    worth = np.concatenate([game((block[:, None] >> np.arange(n) & 1).astype(bool)) for block in codes])
    weight = np.full(max(n, 1), 2.0 ** (1 - n))  # by the number of others that are in
    if value == "shapley":
        weight = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    size = np.bitwise_count(np.arange(2 ** max(n - 1, 0)))
    found = np.zeros(n)
    for player in range(n):
        pairs = worth.reshape(-1, 2, 2**player)
        found[player] = weight[size] @ (pairs[:, 1] - pairs[:, 0]).reshape(-1)
    return found


def shared(
    game: Game, n: int, value: Value, n_samples: int, stream: np.random.Generator, how: Draw = "independent"
) -> Floats:
    """The mean of all players' marginal contributions to the same n_samples coalitions. With a Sobol sequence
    n_samples should be a power of two."""
    bits = draw(n, n_samples, SIZES[value], stream, how)
    total = np.zeros(n)
    for start in range(0, n_samples, BLOCK):
        total += game.marginals(bits[start : start + BLOCK]).sum(axis=0)
    return total / n_samples


def official(game: Game, n: int, value: Value, n_samples: int, stream: np.random.Generator) -> Floats:
    """As EAC's code: n_samples coalitions of their own for each player."""
    found = np.zeros(n)
    for player in range(n):
        for m in _blocks(n_samples):
            without = draw(n, m, SIZES[value], stream)
            without[:, player] = False
            included = without.copy()
            included[:, player] = True
            found[player] += (game(included) - game(without)).sum()
    return found / n_samples


def permutation(game: Game, n: int, n_samples: int, stream: np.random.Generator) -> Floats:
    """Shapley values from n_samples orders in which the players join, each order followed by its reverse."""
    total, order = np.zeros(n), np.empty((0, n), np.int64)
    for m in _blocks(n_samples, max(2, 2 * (BLOCK // (2 * n + 2)))):
        order = stream.permuted(np.tile(np.arange(n), (-(-m // 2), 1)), axis=1)
        order = np.stack([order, order[:, ::-1]], axis=1).reshape(-1, n)[:m]
        place = order.argsort(axis=1)
        joined = place[:, None, :] < np.arange(n + 1)[:, None]  # (m, n + 1, n)
        gained = np.diff(game(joined.reshape(-1, n)).reshape(m, n + 1), axis=1)
        total += np.take_along_axis(gained, place, axis=1).sum(axis=0)
    return total / n_samples


def kernel(game: Game, n: int, value: Value, n_samples: int, stream: np.random.Generator) -> Floats:
    """The regression whose solution the value is, on n_samples coalitions: KernelSHAP (Lundberg & Lee 2017)
    with complements for Shapley's, least squares (Hammer & Holzman 1992) for Banzhaf's."""
    ends = game(np.array([[False] * n, [True] * n]))
    if value == "banzhaf":
        bits = draw(n, n_samples, "bernoulli", stream, "antithetic")
        return regression(bits, game(bits), np.ones(n_samples), ends, value)
    inner = np.arange(1, n)
    chances = 1 / (inner * (n - inner))
    size = stream.choice(inner, -(-n_samples // 2), p=chances / chances.sum()) if n > 1 else np.zeros(0)
    bits = stream.random((len(size), n)).argsort(axis=1).argsort(axis=1) < size[:, None]
    bits = np.stack([bits, ~bits], axis=1).reshape(-1, n)[:n_samples]
    return regression(bits, game(bits), np.ones(len(bits)), ends, value)


def regression(bits: Coalitions, worth: Floats, weight: Floats, ends: Floats, value: Value) -> Floats:
    """The additive game next to m valued coalitions in weighted least squares. weight (m,); ends (2,): the
    worth of nobody and of all, which Shapley's values must add up to. Where the coalitions do not determine
    it, the solution with the least norm."""
    x, y, n = bits.astype(np.float64), np.asarray(worth, np.float64), bits.shape[1]
    if value == "banzhaf":
        root = np.sqrt(weight)[:, None]
        design = np.concatenate([x - 0.5, np.ones((len(x), 1))], axis=1)
        return np.linalg.lstsq(root * design, root[:, 0] * y, rcond=None)[0][:n]
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = (weight[:, None] * x).T @ x / max(weight.sum(), 1e-300)
    system[:n, n] = system[n, :n] = 1
    target = np.append((weight[:, None] * x).T @ (y - ends[0]) / max(weight.sum(), 1e-300), ends[1] - ends[0])
    return np.linalg.lstsq(system, target, rcond=None)[0][:n]


def gaussian_process(bits: Coalitions, worth: Floats, ends: Floats, value: Value) -> Floats:
    """The value of the mean of a Gaussian process through m valued coalitions, however they were drawn, and
    `ends`, as in `regression` (Bayesian quadrature, O'Hagan 1991). The worths of coalitions that differ in d
    of n players correlate by exp(-rate d / n), a squared exponential of their bits, with the one of RATES
    that makes these worths most likely. Takes time with m^3: for a few thousand coalitions."""
    n = bits.shape[1]
    known, first = np.unique(np.r_[bits, [[False] * n, [True] * n]], axis=0, return_index=True)
    m, sign, y = len(known), 2.0 * known - 1, np.r_[np.asarray(worth, np.float64), ends][first]
    differ = (n - sign @ sign.T) / 2
    least, weight, near = np.inf, np.zeros(m), 1.0  # weight: of each coalition in the mean game
    for correlation in np.exp(-np.array(RATES) / max(n, 1)):
        factor = cho_factor(correlation**differ + JITTER * np.eye(m), lower=True)
        solved = cho_solve(factor, np.stack([np.ones(m), y], axis=1))
        trial = solved[:, 1] - solved[:, 0] * (solved[:, 1].sum() / solved[:, 0].sum())  # less the mean
        scale = max(float(y @ trial) / m, np.finfo(float).tiny)
        surprise = m * np.log(scale) + 2 * np.log(np.diag(factor[0])).sum()
        if surprise < least:
            least, weight, near = surprise, trial, float(correlation)
    joined = (1 - near) * sign * weight[:, None]  # a player's step in each coalition's share of the mean game
    if value == "banzhaf":
        return ((1 + near) / 2) ** (n - 1) * joined.sum(axis=0)
    place, share = np.polynomial.legendre.leggauss(n // 2 + 1)  # exact: a polynomial of degree n - 1
    chance, share = (place[:, None] + 1) / 2, share[:, None] / 2
    others = np.arange(n)  # that are in: how near a random coalition of the others is to these
    inside, outside = chance + (1 - chance) * near, chance * near + 1 - chance
    nearness = (share * inside**others * outside ** (n - 1 - others)).sum(axis=0)
    return (joined * nearness[known.sum(axis=1, keepdims=True) - known]).sum(axis=0)


def regression_weights(bits: Coalitions, value: Value, sizes: Sizes) -> Floats:
    """What makes `regression` on coalitions drawn so (or on all coalitions once: as "bernoulli") estimate the
    value: its own weight for a coalition of that size by the chance that it was drawn. The largest is 1; with
    Shapley's, nobody and all have 0, since `ends` says their worth."""
    n, size = bits.shape[1], bits.sum(axis=1)
    log_ways = gammaln(n + 1) - gammaln(size + 1) - gammaln(n - size + 1)
    log_chance = -log_ways if sizes == "uniform" else np.zeros(len(bits))
    log_weight = -log_chance
    if value == "shapley":
        inner = size * (n - size)
        log_weight -= log_ways + np.log(np.where(inner > 0, inner, np.inf))
    return (
        np.exp(log_weight - log_weight.max(initial=-np.inf)) if np.isfinite(log_weight).any() else size * 0.0
    )


def chosen(values: NDArray[np.floating], choice: Choice, top_k: int, share: float) -> NDArray[np.int64]:
    """Which players make up an explanation, best first: the best; the `top_k` best; or those with at least
    `share` of the sum of the positive values, and the best in any case. Of no players, none."""
    order = np.argsort(-values, kind="stable")
    if choice == "top_k":
        return order[:top_k]
    least = np.inf if choice == "top" else share * values[values > 0].sum()
    return order[: max(1, int((values[order] >= least).sum()))]


def _blocks(n_samples: int, size: int = BLOCK) -> Iterator[int]:
    """How many samples each block has; all but the last an even number."""
    return (min(size, n_samples - start) for start in range(0, n_samples, size))
