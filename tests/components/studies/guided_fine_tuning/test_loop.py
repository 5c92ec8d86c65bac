"""Against a loop written out, of a small transformer in float32."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from components.studies.guided_fine_tuning.loop import fine_tune
from components.studies.guided_fine_tuning.methods.fine_tuning import FineTuning
from components.studies.guided_fine_tuning.training_masks import GuidedImages
from tests.random_vit import CLASSES, SIDE, random_vit

LEARNING_RATE, WEIGHT_DECAY, LAMBDA_CLS, TEMPERATURE = 0.01, 0.1, 0.3, 0.65


@dataclass(frozen=True, kw_only=True)
class Stub(FineTuning):
    """Its guidance is whatever function it is given."""

    asked: Callable

    def guidance(self, network, pixels, masks, labels):
        return self.asked(network, pixels, masks, labels)


def nothing(step, **metrics):
    """A report that nobody reads."""


def guided(colours, labels=None, seed=0):
    """Images that are their own mirror images, as their masks are; the first pixel's red says which it is."""
    stream, n = np.random.default_rng(seed), len(colours)
    halves = stream.integers(0, 256, (n, SIDE, SIDE // 2, 3)).astype(np.uint8)
    images = np.concatenate([halves, halves[:, :, ::-1]], axis=2)
    images[:, 0, [0, -1], 0] = np.array(colours)[:, None]
    masks = images[..., 1] < 100
    chosen = stream.integers(0, CLASSES, n) if labels is None else np.array(labels)
    return GuidedImages(np.arange(n), chosen, images, masks, 0, 0)


def tensors(images):
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).float()
    return pixels, torch.from_numpy(images.masks).float(), torch.from_numpy(images.labels)


def network_and_its_class(pixels):
    network = random_vit("small_vit", depth=2, dtype=torch.float32)
    with torch.no_grad():
        return network, int(network(pixels).argmax())


@pytest.mark.parametrize("kind", ["self_label", "ground_truth", "kl_to_original"])
def test_it_is_the_loop_written_out(kind):
    """AdamW on all parameters, its rate 0.85 of itself from every second epoch on; the network's own label is
    that of the moment, what is kept by `kl_to_original` that of the start."""
    train, held_out = guided([10]), guided([20], seed=1)
    network, start_class = network_and_its_class(tensors(train)[0])
    labels = np.array([(start_class + 1) % CLASSES])
    train = GuidedImages(train.ids, labels, train.images, train.masks, 0, 0)
    expected, start = deepcopy(network), deepcopy(network)

    def guidance(network, pixels, masks, labels):
        """Takes the class at the start away, by what the mask leaves of the image."""
        logits = network(pixels)
        return network(pixels * masks[:, None])[:, start_class].mean() + logits[:, start_class].mean(), logits

    def total(network, images):
        pixels, masks, labels = tensors(images)
        loss, logits = guidance(network, pixels, masks, labels)
        if kind == "kl_to_original":
            q = (start(pixels) / TEMPERATURE).log_softmax(1).detach()
            p = (logits / TEMPERATURE).log_softmax(1)
            return loss + LAMBDA_CLS * kl_div(p, q, reduction="batchmean", log_target=True)
        target = logits.argmax(1) if kind == "self_label" else labels
        return loss + LAMBDA_CLS * cross_entropy(logits / TEMPERATURE, target)

    optimizer = torch.optim.AdamW(expected.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rates = [1, 1, 0.85, 0.85, 0.85**2]
    on_train, on_held_out = [], []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        optimizer.zero_grad()
        loss = total(expected, train)
        loss.backward()
        optimizer.step()
        on_train.append(loss.item())
        on_held_out.append(total(expected, held_out).item())
    with torch.no_grad():
        assert int(expected(tensors(train)[0]).argmax()) != start_class  # or self-labels could be the start's

    method = Stub(
        asked=guidance, classification=kind, temperature=TEMPERATURE, lambda_cls=LAMBDA_CLS, epochs=len(rates),
        learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, batch_size=1,
    )  # fmt: skip
    said = []
    names = ("train_loss", "held_out_loss")
    assert method.at_steps() == set(names)
    report = lambda step, **metrics: said.append([metrics[name] for name in names])  # noqa: E731
    done = fine_tune(method, network, train, held_out, SIDE, 0, report)
    np.testing.assert_allclose(said, np.stack([on_train, on_held_out], axis=1), rtol=1e-4)
    for name, parameter in expected.state_dict().items():
        np.testing.assert_allclose(done.weights["last"][name], parameter, rtol=1e-3, atol=1e-4)
        assert not torch.equal(parameter, start.state_dict()[name]), name
    assert done.best_epoch == int(np.argmin(on_held_out))


def test_every_epoch_sees_every_image_once_in_another_order():
    train, held_out, seen = guided([3, 1, 4, 15, 9, 2, 6]), guided([200, 201]), []

    def guidance(network, pixels, masks, labels):
        reds = pixels[:, 0, 0, 0]
        seen.append(reds.int().tolist())
        return reds.mean() + 0 * network(pixels).sum(), network(pixels)

    method = Stub(asked=guidance, epochs=3, batch_size=3, learning_rate=1e-9, lambda_cls=0.5)
    said = []
    fine_tune(
        method,
        random_vit("small_vit", depth=1, dtype=torch.float32),
        train,
        held_out,
        SIDE,
        0,
        lambda step, **m: said.append(m),
    )
    epochs = [seen[4 * epoch : 4 * epoch + 4] for epoch in range(3)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [3, 3, 1, 2]
        assert sorted(red for batch in batches[:3] for red in batch) == [1, 2, 3, 4, 6, 9, 15]
        assert batches[3] == [200, 201]
    assert len({str(batches) for batches in epochs}) == 3
    for metrics in said:  # means over images, though the last batch is smaller
        assert metrics["train_guidance_loss"] == pytest.approx(40 / 7, rel=1e-6)
        parts = metrics["train_guidance_loss"] + 0.5 * metrics["train_classification_loss"]
        assert metrics["train_loss"] == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize(
    ("bad_step", "said"), [(1, "loss is nan at step 2"), (2, "held-out loss is nan after step 2")]
)
def test_gradients_that_are_no_numbers_end_it_also_in_the_last_step(bad_step, said):
    """The loss of that step is 0, its gradient is infinity times 0."""
    calls = []

    def guidance(network, pixels, masks, labels):
        logits = network(pixels)
        calls.append(1)
        nought = 0 * logits.sum()
        return (nought.abs().sqrt() if len(calls) == bad_step + 1 else nought), logits

    method = Stub(asked=guidance, epochs=1, batch_size=2)
    network = random_vit("small_vit", depth=1, dtype=torch.float32)
    with pytest.raises(FloatingPointError, match=f"^{said}$"):
        fine_tune(method, network, guided(range(6)), guided([200]), SIDE, 0, nothing)
