"""The loss of a set of boxes with texts (DETR's, GroundingDINO's), written out.

That of transformers gives the encoder's proposals no gradient and reads prompts of a batch wrongly unless all
are laid out alike. Boxes are centre and size in shares of the image. Q queries, T tokens, G true boxes.
"""

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

CLASS, L1, OVERLAP = 4.0, 5.0, 2.0  # loss and matching; words weigh twice the usual
ALPHA, GAMMA = 0.5, 2.0  # with GroundingDINO's 0.25 scores are lower


def set_loss(
    logits: Tensor,
    boxes: Tensor,
    truth: Sequence[Tensor],
    words: Sequence[Tensor],
    real: Tensor,
    copies: int = 1,
) -> Tensor:
    """Focal loss of all tokens, and L1 and GIoU of the matched boxes, per true box.

    logits (B, Q, T); boxes (B, Q, 4); truth and words of each image, (G, 4) and bool (G, T); real bool
    (B, T): tokens that are not padding. `copies`: how many queries each true box is matched with.
    """
    with torch.no_grad():
        matches = [
            match(cost(*given), copies) for given in zip(logits, boxes.detach(), truth, words, strict=True)
        ]
    queries = torch.cat([torch.stack([torch.full_like(q, i), q]) for i, (q, _) in enumerate(matches)], dim=1)
    named = torch.cat([w[g] for w, (_, g) in zip(words, matches, strict=True)])
    targets = torch.zeros_like(logits)
    targets[queries[0], queries[1]] = named.float()
    found = boxes[queries[0], queries[1]]
    true = torch.cat([t[g] for t, (_, g) in zip(truth, matches, strict=True)])
    said = focal(logits.masked_fill(~real[:, None], 0), targets).masked_fill(~real[:, None], 0).sum()
    apart = (found - true).abs().sum()
    outside = (1 - generalised_iou(found, true)).sum()
    return (CLASS * said + L1 * apart + OVERLAP * outside) / max(len(true), 1)


def match(costs: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
    """The queries and true boxes, int64 both, of the pairs with the smallest sum of `costs` (Q, G): each true
    box in `copies` pairs, each query in one at most."""
    queries, boxes = linear_sum_assignment(costs.repeat(1, copies).numpy())
    return torch.as_tensor(queries), torch.as_tensor(boxes) % max(costs.shape[1], 1)


def cost(logits: Tensor, boxes: Tensor, truth: Tensor, words: Tensor) -> Tensor:
    """(Q, G): what the loss would add for a pair, the focal term as a mean over the words of the box."""
    present = focal(logits, torch.ones_like(logits)) - focal(logits, torch.zeros_like(logits))
    share = words.float() / words.sum(1, keepdim=True).clamp(min=1)
    overlap = generalised_iou(boxes[:, None], truth[None])
    return CLASS * present.nan_to_num() @ share.T + L1 * torch.cdist(boxes, truth, p=1) - OVERLAP * overlap


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002), element by element."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = (logits.sigmoid() - targets).abs()
    return entropy * wrong**GAMMA * torch.where(targets > 0, ALPHA, 1 - ALPHA)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes (..., 4), in [-1, 1] (Rezatofighi et al., arXiv 1902.09630)."""
    low_a, high_a = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    low_b, high_b = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    both = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both
    return both / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)
