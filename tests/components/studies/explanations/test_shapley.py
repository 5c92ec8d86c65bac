"""Values of games, against sums over all orders and all coalitions, and against what defines them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from components.studies.explanations import shapley
from components.studies.explanations.shapley import (
    Game,
    chosen,
    draw,
    every_coalition,
    exact,
    gaussian_process,
    regression,
    regression_weights,
)

VALUES = ("banzhaf", "shapley")
BUDGET = 8192  # the default of the stage `mask_values`


def table_game(worth):
    """The game of 2^n given numbers, player i being bit i."""
    worth = np.asarray(worth, np.float64)
    return Game(lambda bits: worth[bits @ (1 << np.arange(bits.shape[1]))])


def random_worth(n, seed):
    return np.random.default_rng(seed).normal(size=2**n)


def smooth_game(n, seed):
    """Like a probability: a sigmoid of a sum with some pairs."""
    stream = np.random.default_rng(seed)
    own, pairs = stream.normal(size=n), np.triu(stream.normal(size=(n, n)), 1) / np.sqrt(n)
    return Game(lambda bits: 1 / (1 + np.exp(-(bits @ own + ((bits @ pairs) * bits).sum(1) - own.sum() / 2))))


def brute_force(worth, n, value):
    """Shapley: mean over all orders; Banzhaf: mean over all coalitions of the others."""
    found = np.zeros(n)
    if value == "shapley":
        orders = list(permutations(range(n)))
        for order in orders:
            before = 0
            for player in order:
                found[player] += worth[before | 1 << player] - worth[before]
                before |= 1 << player
        return found / len(orders)
    for player in range(n):
        others = [c for c in range(2**n) if not c >> player & 1]
        found[player] = np.mean([worth[c | 1 << player] - worth[c] for c in others])
    return found


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("value", VALUES)
def test_exact_values_are_those_of_all_orders_and_coalitions(n, value):
    worth = random_worth(n, n)
    np.testing.assert_allclose(exact(table_game(worth), n, value), brute_force(worth, n, value), atol=1e-12)


def test_of_no_players_there_are_no_values():
    assert exact(Game(lambda bits: np.ones(len(bits))), 0, "shapley").shape == (0,)
    assert len(chosen(np.zeros(0), "top", 3, 0.1)) == 0


def test_exact_values_of_too_many_players_are_refused():
    with pytest.raises(ValueError, match="21 players: at most 20"):
        exact(Game(lambda bits: np.zeros(len(bits))), 21, "banzhaf")


games = st.tuples(st.integers(1, 6), st.integers(0, 10**6))


@given(games)
def test_shapley_values_add_up_to_what_all_gain(game):
    n, seed = game
    worth = random_worth(n, seed)
    assert exact(table_game(worth), n, "shapley").sum() == pytest.approx(worth[-1] - worth[0])


@given(games, st.sampled_from(VALUES))
def test_players_who_are_alike_have_one_value(game, value):
    """Symmetry: only how many of the first two are in counts."""
    n, seed = game[0] + 1, game[1]
    stream = np.random.default_rng(seed)
    worth = stream.normal(size=2**n)
    codes = np.arange(2**n)
    worth[(codes & 3) == 2] = worth[(codes & 3) == 1]
    found = exact(table_game(worth), n, value)
    assert found[0] == pytest.approx(found[1])


@given(games, st.sampled_from(VALUES))
def test_a_player_who_changes_nothing_has_no_value(game, value):
    n, seed = game
    worth = np.tile(random_worth(n, seed), 2)  # the last player's bit is the highest
    assert exact(table_game(worth), n + 1, value)[-1] == 0


@given(games, st.sampled_from(VALUES), st.floats(-3, 3))
def test_values_are_linear_in_the_game(game, value, factor):
    n, seed = game
    one, other = random_worth(n, seed), random_worth(n, seed + 1)
    found = exact(table_game(one + factor * other), n, value)
    parts = exact(table_game(one), n, value) + factor * exact(table_game(other), n, value)
    np.testing.assert_allclose(found, parts, atol=1e-9)


def additive(n):
    own = np.random.default_rng(n).normal(size=n)
    return own, Game(lambda bits: bits @ own + 0.3)


ESTIMATES = {
    "shared": lambda game, n, value, m, s: shapley.shared(game, n, value, m, s),
    "antithetic": lambda game, n, value, m, s: shapley.shared(game, n, value, m, s, "antithetic"),
    "sobol": lambda game, n, value, m, s: shapley.shared(game, n, value, m, s, "sobol"),
    "official": lambda game, n, value, m, s: shapley.official(game, n, value, m, s),
    "kernel": lambda game, n, value, m, s: shapley.kernel(game, n, value, m, s),
    "permutation": lambda game, n, value, m, s: shapley.permutation(game, n, m, s),
}
BOTH = [
    (name, value) for name in ESTIMATES for value in VALUES if (name, value) != ("permutation", "banzhaf")
]


@pytest.mark.parametrize(("name", "value"), BOTH)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_estimate_of_an_additive_game_is_exact(name, value, n):
    """Where no player depends on another, Banzhaf's and Shapley's values are the players' own worth."""
    own, game = additive(n)
    found = ESTIMATES[name](game, n, value, 64, np.random.default_rng(0))
    np.testing.assert_allclose(found, own, atol=1e-12)


@pytest.mark.parametrize(("name", "value"), BOTH)
def test_every_estimate_comes_to_the_exact_values(name, value):
    """Four times the samples, about half the error, over ten streams; and no bias."""
    n, game = 8, smooth_game(8, 3)
    truth = exact(game, n, value)

    def errors(m):
        found = [ESTIMATES[name](game, n, value, m, np.random.default_rng(seed)) for seed in range(10)]
        return np.array(found) - truth

    few, many = errors(64), errors(1024)
    assert np.sqrt(np.mean(many**2)) < 0.5 * np.sqrt(np.mean(few**2))
    spread = many.std(axis=0, ddof=1) / np.sqrt(10)
    assert (abs(many.mean(axis=0)) < 5 * spread + 1e-4).all()


@pytest.mark.parametrize("n", [2, 5, 9])
def test_an_order_and_its_reverse_are_exact_where_players_act_in_pairs(n):
    """A player has its own worth and half of what each pair adds that it is in: of two players one comes first in
    either order."""
    own, _ = additive(n)
    pairs = np.triu(np.random.default_rng(1).normal(size=(n, n)), 1)
    game = Game(lambda bits: bits @ own + ((bits @ pairs) * bits).sum(axis=1))
    found = shapley.permutation(game, n, 2, np.random.default_rng(0))
    np.testing.assert_allclose(found, own + (pairs + pairs.T).sum(axis=1) / 2, atol=1e-12)


@pytest.mark.parametrize("value", VALUES)
def test_the_error_at_the_default_budget(value):
    """Twelve players, values to 0.3: below 2e-4 for Banzhaf's and 1e-3 for Shapley's; a fifth and half of
    the error of independent coalitions."""
    game = smooth_game(12, 5)
    truth = exact(game, 12, value)

    def error(how):
        found = [
            shapley.shared(game, 12, value, BUDGET, np.random.default_rng(seed), how) for seed in range(4)
        ]
        return np.sqrt(np.mean((np.array(found) - truth) ** 2))

    assert abs(truth).max() > 0.1
    assert error("sobol") < {"banzhaf": 2e-4, "shapley": 1e-3}[value]
    assert error("sobol") < error("independent") / (5 if value == "banzhaf" else 2)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("value", VALUES)
def test_regression_on_all_coalitions_is_exact(n, value):
    worth, bits = random_worth(n, n), every_coalition(n)
    weight = regression_weights(bits, value, "bernoulli")
    found = regression(bits, worth, weight, worth[[0, -1]], value)
    np.testing.assert_allclose(
        found, brute_force(worth, n, value) if n < 8 else exact(table_game(worth), n, value), atol=1e-9
    )


def ends_of(game, n):
    return game(np.array([[False] * n, [True] * n]))


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("value", VALUES)
def test_gaussian_process_values_are_those_of_scikit_learns_mean_game(monkeypatch, value, n):
    """Enumerated, for a rate that both are given: 3, so a length of sqrt(n / 6)."""
    monkeypatch.setattr(shapley, "RATES", (3,))
    stream, game = np.random.default_rng(4), smooth_game(n, 2)
    bits, ends = draw(n, 40, "uniform", stream), ends_of(game, n)
    found = gaussian_process(bits, game(bits), ends, value)
    known = np.unique(np.r_[bits, [[False] * n, [True] * n]], axis=0)
    kernel = RBF(np.sqrt(n / 6), length_scale_bounds="fixed")
    ones = GaussianProcessRegressor(kernel, alpha=shapley.JITTER, optimizer=None).fit(
        known, np.ones(len(known))
    )
    plain = GaussianProcessRegressor(kernel, alpha=shapley.JITTER, optimizer=None).fit(known, game(known))
    level = plain.alpha_.sum() / ones.alpha_.sum()  # the constant that is most likely
    mean = plain.fit(known, game(known) - level).predict(every_coalition(n)) + level
    np.testing.assert_allclose(found, exact(table_game(mean), n, value), atol=1e-9)


def test_gaussian_process_takes_the_rate_that_scikit_learn_finds_most_likely():
    """Of two: with the others forbidden the values are the same. A smooth game and a rough one."""
    for game, likely, other in ((smooth_game(8, 3), 1, 16), (table_game(random_worth(8, 0)), 16, 1)):
        bits = draw(8, 100, "bernoulli", np.random.default_rng(0))
        known = np.unique(np.r_[bits, [[False] * 8, [True] * 8]], axis=0)
        y = game(known) - game(known).mean()
        odds = {}
        for rate in (likely, other):
            kernel = ConstantKernel(y.var()) * RBF(np.sqrt(4 / rate), length_scale_bounds="fixed")
            regressor = GaussianProcessRegressor(kernel, alpha=shapley.JITTER * y.var(), random_state=0)
            odds[rate] = regressor.fit(known, y).log_marginal_likelihood_value_
        assert odds[likely] > odds[other]
        with pytest.MonkeyPatch.context() as patch:
            found = []
            for rates in ((1, 16), (likely,)):
                patch.setattr(shapley, "RATES", rates)
                found.append(gaussian_process(bits, game(bits), ends_of(game, 8), "banzhaf"))
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("value", VALUES)
def test_gaussian_process_on_all_coalitions_is_exact_and_on_few_nearer_than_regression(value):
    game = smooth_game(10, 3)
    truth, ends = exact(game, 10, value), ends_of(game, 10)
    bits = every_coalition(10)
    np.testing.assert_allclose(gaussian_process(bits, game(bits), ends, value), truth, atol=1e-4)
    errors = []
    for seed in range(5):
        few = draw(10, 200, shapley.SIZES[value], np.random.default_rng(seed))
        weight = regression_weights(few, value, shapley.SIZES[value])
        errors.append(
            [
                gaussian_process(few, game(few), ends, value) - truth,
                regression(few, game(few), weight, ends, value) - truth,
            ]
        )
    process, plain = np.sqrt(np.mean(np.square(errors), axis=(0, 2)))
    assert process < 0.85 * plain


@pytest.mark.parametrize("value", VALUES)
def test_gaussian_process_of_a_constant_game_and_of_400_players(value):
    bits = draw(6, 50, "uniform", np.random.default_rng(0))
    found = gaussian_process(bits, np.full(50, 0.3), np.full(2, 0.3), value)
    np.testing.assert_allclose(found, 0, atol=1e-12)
    bits = draw(400, 300, "uniform", np.random.default_rng(0))
    found = gaussian_process(bits, bits[:, 0] + 0.0, np.array([0.0, 1.0]), value)
    assert np.isfinite(found).all()
    assert found.argmax() == 0


@pytest.mark.parametrize("sizes", ["bernoulli", "uniform"])
@pytest.mark.parametrize("value", VALUES)
def test_regression_weights_undo_how_coalitions_were_drawn(value, sizes):
    game, stream = smooth_game(6, 1), np.random.default_rng(0)
    bits = draw(6, 40_000, sizes, stream)
    ends = game(np.array([[False] * 6, [True] * 6]))
    found = regression(bits, game(bits), regression_weights(bits, value, sizes), ends, value)
    np.testing.assert_allclose(found, exact(game, 6, value), atol=4e-3)


@pytest.mark.parametrize("value", VALUES)
def test_regression_is_finite_for_400_players(value):
    bits = draw(400, 300, "uniform", np.random.default_rng(0))
    weight = regression_weights(bits, value, "uniform")
    found = regression(bits, bits[:, 0].astype(float), weight, np.array([0.0, 1.0]), value)
    assert np.isfinite(found).all()
    if value == "shapley":
        assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("how", ["independent", "antithetic", "sobol"])
def test_coalitions_have_the_sizes_that_they_should(how):
    """Of 9 players: binomial sizes, or all equally likely."""
    stream = np.random.default_rng(2)
    uniform = draw(9, 2**14, "uniform", stream, how).sum(axis=1)
    np.testing.assert_allclose(np.bincount(uniform, minlength=10) / 2**14, 0.1, atol=0.01)
    bernoulli = draw(9, 2**14, "bernoulli", stream, how)
    np.testing.assert_allclose(bernoulli.mean(axis=0), 0.5, atol=0.02)
    assert bernoulli.sum(axis=1).var() == pytest.approx(9 / 4, rel=0.1)
    assert draw(9, 2501, "uniform", stream, how).shape == (2501, 9)


def test_antithetic_coalitions_come_with_their_complements():
    bits = draw(5, 7, "uniform", np.random.default_rng(0), "antithetic")
    assert (bits[1::2] == ~bits[0:6:2]).all()


def test_marginals_of_any_game_are_differences():
    worth = random_worth(5, 0)
    bits = draw(5, 20, "bernoulli", np.random.default_rng(0))
    found = table_game(worth).marginals(bits)
    for row, code in enumerate(bits @ (1 << np.arange(5))):
        for player in range(5):
            expected = worth[code | 1 << player] - worth[code & ~(1 << player)]
            assert found[row, player] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("choice", "expected"), [("top", [2]), ("top_k", [2, 0]), ("above_share", [2, 0, 3])]
)
def test_the_masks_of_an_explanation(choice, expected):
    values = np.array([0.3, -0.5, 0.5, 0.15, 0.05])
    assert chosen(values, choice, 2, 0.15).tolist() == expected


def test_an_explanation_has_its_best_mask_even_where_all_count_against():
    assert chosen(np.array([-0.2, -0.1]), "above_share", 2, 0.5).tolist() == [1]
