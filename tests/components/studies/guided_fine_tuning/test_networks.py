"""What fine-tuning asks of a network, with statistics of pixels that are the network's own."""

import pytest
import torch

from components.studies.guided_fine_tuning.methods.cft import Cft
from components.studies.guided_fine_tuning.methods.fine_tuning import FineTuning
from components.studies.guided_fine_tuning.methods.grad_mask import GradMask
from components.studies.guided_fine_tuning.methods.robust_vit import RobustVit
from components.studies.guided_fine_tuning.methods.rrr import Rrr
from tests.random_vit import CLASSES, in_precision, random_pixels, random_vit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network_of_imagenet(form):
    network = random_vit(form, depth=2)
    network.mean.copy_(torch.tensor(MEAN).view(1, 3, 1, 1))
    network.std.copy_(torch.tensor(STD).view(1, 3, 1, 1))
    return network


@pytest.mark.parametrize("form", ["class_token", "small_vit"])
@pytest.mark.parametrize("kind", [Cft, RobustVit, Rrr, GradMask, FineTuning])
def test_pixels_are_normalised_by_the_networks_own_statistics(kind, form):
    network, pixels = in_precision(network_of_imagenet(form), torch.float32), random_pixels(2).float()
    inputs = torch.stack([(pixels[:, c] / 255 - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    expected = network.head(network.pool(network.trunk(inputs)))
    masks = torch.zeros(2, *pixels.shape[2:])
    masks[:, :5, 3:9] = 1
    _, logits = kind().guidance(network, pixels, masks, torch.tensor([0, CLASSES - 1]))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [Rrr, GradMask])
def test_only_gradients_beside_the_mask_cost(kind):
    """Squared: what two halves cost alone adds up to what the whole image costs."""
    network, pixels, labels = (
        network_of_imagenet("class_token"),
        random_pixels(2).double(),
        torch.tensor([1, 2]),
    )
    everything, nothing, left = (torch.full((2, 16, 16), share) for share in (1.0, 0.0, 0.0))
    left[:, :, :8] = 1

    def cost(masks, weight=1.0):
        return kind(lambda_nc=weight).guidance(network, pixels, masks, labels)[0].item()

    assert cost(everything) == 0
    assert cost(nothing) > cost(left) > 0
    assert cost(left) + cost(1 - left) == pytest.approx(cost(nothing), rel=1e-6)
    assert cost(left, 3.0) == pytest.approx(3 * cost(left), rel=1e-6)


def test_the_constants_are_the_published_ones():
    """Those of CFT's and RobustViT's code, and of CFT's Table 8 for ViT-B
    (docs/methods/guided_fine_tuning.md, "Knobs")."""
    cft, robust_vit, rrr, grad_mask = Cft(), RobustVit(), Rrr(), GradMask()
    assert (cft.lambda_align, cft.lambda_cls, cft.lambda_nc, cft.lambda_concept) == (0.8, 0.2, 1.2, 0.5)
    assert (cft.epochs, cft.batch_size, cft.weight_decay, cft.images_per_class) == (50, 8, 1e-4, 3)
    assert (cft.temperature, cft.region_norm, cft.classification) == (1, False, "self_label")
    parts = (robust_vit.lambda_background, robust_vit.lambda_foreground)
    assert (robust_vit.lambda_relevance, *parts, robust_vit.lambda_cls) == (0.8, 2, 0.3, 0.2)
    assert robust_vit.learning_rate == 3e-6
    assert (rrr.lambda_cls, rrr.lambda_nc, rrr.learning_rate) == (2e-6, 1e-10, 2e-6)
    assert (grad_mask.lambda_cls, grad_mask.lambda_nc, grad_mask.learning_rate) == (0.1, 50, 1e-3)
    assert rrr.classification == grad_mask.classification == "ground_truth"
