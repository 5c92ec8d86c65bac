"""The surrogate, against a plain loop of torch's own layers, losses and optimisers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from components.studies.explanations import shapley
from components.studies.explanations import surrogate_network as surrogate
from components.studies.explanations.shapley import Game
from components.studies.explanations.surrogate import Surrogate
from components.studies.explanations.surrogate_network import Head, SoftmaxGame, fit_surrogate

N, F, C, M, LABEL = 7, 24, 11, 330, 4
STREAM = np.random.default_rng(0)
BITS = STREAM.random((M, N)) < 0.5
WANTED = STREAM.dirichlet(np.full(C, 0.3), M)


def linear(width=F, n_classes=C):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Linear(width, n_classes)


def head_of(layer):
    return Head(layer.weight.detach(), layer.bias.detach())


class Replayed:
    """The random stream that `fit_surrogate` uses, seen from outside: the start, then an order per epoch."""

    def __init__(self, features):
        stream = np.random.default_rng(1)
        start = stream.uniform(-1, 1, (features, N + 1)) / np.sqrt(N)
        self.start = torch.from_numpy(start).float()
        self.orders = [stream.permutation(M) for _ in range(5)]


def loss_of(logits, rows, loss):
    probabilities = logits.softmax(dim=1)
    wanted = torch.from_numpy(WANTED[rows]).float()
    if loss == "binary_cross_entropy":
        return functional.binary_cross_entropy(probabilities[:, LABEL], wanted[:, LABEL])
    if loss == "squared_error":
        return functional.mse_loss(probabilities[:, LABEL], wanted[:, LABEL])
    return functional.cross_entropy(logits, wanted)


def plain_loop(head, loss, optimiser, rate, features):
    """Five epochs of a linear layer under a frozen head, by automatic differentiation."""
    told = Replayed(features)
    layer = nn.Linear(N, features)
    with torch.no_grad():
        layer.weight.copy_(told.start[:, :N])
        layer.bias.copy_(told.start[:, N])
    parameters = layer.parameters()
    steps = {
        "sgd": lambda: torch.optim.SGD(parameters, rate, momentum=0.9),
        "adam": lambda: torch.optim.Adam(parameters, rate),
    }[optimiser]()
    bits = torch.from_numpy(BITS).float()
    for order in told.orders:
        for rows in np.split(order, range(100, M, 100)):
            steps.zero_grad()
            loss_of(head(layer(bits[rows])), rows, loss).backward()
            steps.step()
    with torch.no_grad():
        return head(layer(bits)).softmax(dim=1)[:, LABEL].numpy()


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize(("optimiser", "rate"), [("sgd", 0.05), ("adam", 1e-2)])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error", "all_classes"])
def test_training_is_that_of_a_plain_loop(loss, optimiser, rate, with_head):
    head, features = (linear(), F) if with_head else (nn.Identity(), C)
    training = Surrogate(loss=loss, optimiser=optimiser, learning_rate=rate, epochs=5, batch_size=100)
    own = head_of(head) if with_head else Head(None, torch.zeros(C))
    before = None if own.weight is None else own.weight.numpy().tobytes()
    targets = WANTED if loss == "all_classes" else WANTED[:, LABEL]
    game = fit_surrogate(BITS, targets, own, LABEL, training, np.random.default_rng(1))
    expected = plain_loop(head, loss, optimiser, rate, features)
    np.testing.assert_allclose(game(BITS), expected, atol=1e-5)
    assert np.std(expected) > 1e-3
    if own.weight is not None:
        assert own.weight.numpy().tobytes() == before == head.weight.detach().numpy().tobytes()


def random_game(n, scale=1.0):
    """Of the class that half of all masks speak for."""
    stream = torch.Generator().manual_seed(n)
    weight, bias = scale * torch.randn(C, n, generator=stream), torch.randn(C, generator=stream)
    return weight, bias, int((weight.sum(1) / 2 + bias).argmax())


def plainly(weight, bias, label):
    """The same game in float64, by the definition of softmax."""
    w, b = weight.double(), bias.double()
    return Game(lambda bits: torch.softmax(torch.from_numpy(bits).double() @ w.T + b, 1)[:, label].numpy())


@pytest.mark.parametrize(
    ("scale", "atol"), [(1.0, 1e-6), (30.0, 1e-9), (200.0, 1e-9), (2000.0, 1e-9), (1e6, 1e-9)]
)
def test_marginal_contributions_are_those_of_single_coalitions(scale, atol, monkeypatch):
    """The larger scales leave what exponentials of float32 can hold, and then those of float64."""
    monkeypatch.setattr(surrogate, "AT_ONCE", 1000)
    game, plain = SoftmaxGame(*random_game(N, scale)), plainly(*random_game(N, scale))
    np.testing.assert_allclose(game(BITS), plain(BITS), rtol=0, atol=atol)
    expected = plain.marginals(BITS)
    np.testing.assert_allclose(game.marginals(BITS), expected, rtol=0, atol=atol)
    assert np.abs(expected).max() > 0.3


@pytest.mark.parametrize("value", ["banzhaf", "shapley"])
def test_exact_values_of_fourteen_masks_agree_with_a_sobol_sequence(value):
    game = SoftmaxGame(*random_game(14, 0.7))
    found = shapley.shared(game, 14, value, 8192, np.random.default_rng(0), "sobol")
    truth = shapley.exact(plainly(*random_game(14, 0.7)), 14, value)
    np.testing.assert_allclose(found, truth, atol=2e-3)


def test_a_classifier_that_is_constant_gives_no_mask_a_value():
    head = Head(torch.zeros(C, F), torch.arange(C).float())
    game = fit_surrogate(BITS, np.full(M, 0.2), head, LABEL, Surrogate(epochs=1), np.random.default_rng(0))
    assert abs(game.marginals(BITS)).max() < 1e-9
    np.testing.assert_allclose(game(BITS), np.exp(LABEL) / np.exp(np.arange(C)).sum(), rtol=1e-6)


def test_a_planted_additive_game_is_learnt():
    """R² on held-out coalitions (docs/methods/explanations.md, eq. 7), with the default recipe and a head as
    wide as a ResNet's; and with Adam, which gets further, the values of the game itself."""
    head = head_of(linear(512))
    bits = np.random.default_rng(5).random((2500, N)) < 0.5
    truth = Game(lambda z: 1 / (1 + np.exp(-3 * (z @ np.array([1.0, -0.6, 0.3, 0, 0, 0.1, 0])))))
    wanted = truth(bits)

    def learnt(training):
        stream = np.random.default_rng(0)
        game = fit_surrogate(bits[500:], wanted[500:], head, LABEL, training, stream)
        left = wanted[:500] - game(bits[:500])
        return game, 1 - np.mean(left**2) / np.var(wanted[:500])

    game, r2 = learnt(Surrogate())
    assert r2 > 0.5
    values = shapley.exact(game, N, "banzhaf")
    assert (values.argmax(), values.argmin()) == (0, 1)
    game, better = learnt(Surrogate(optimiser="adam", learning_rate=0.01))
    assert better > 0.999 > r2
    for value in ("banzhaf", "shapley"):
        found, expected = (shapley.exact(which, N, value) for which in (game, truth))
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_targets_of_zero_and_one_do_not_break_training():
    targets = (BITS[:, 0]).astype(float)
    game = fit_surrogate(
        BITS, targets, head_of(linear()), LABEL, Surrogate(learning_rate=1.0), np.random.default_rng(0)
    )
    found = game(BITS)
    assert np.isfinite(found).all()
    assert found[BITS[:, 0]].mean() > 0.9 > 0.1 > found[~BITS[:, 0]].mean()
