"""A SAM while it is trained on images, each asked with many boxes and points in one pass of the encoder.

N images, S side in pixels, B boxes, P points of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.data.generators.toybirds import PARTS
from components.toybirds.sam.architecture import PATCH_SIZE, PROMPT_WIDTH, untrained_sam
from components.toybirds.sam.losses import mask_loss, true_iou
from components.toybirds.sam.prompts import Prompts

# of the background and each of PARTS where they are read off the embedding: beak and crest are a few pixels
WEIGHTS = (0.5, 3.0, 3.0, 2.0, 2.0, 1.0, 1.5, 2.0, 1.0)


class TrainedSam(nn.Module):
    """The model, with a head that is thrown away: it reads every pixel's part off the image embedding, which
    teaches the encoder what all the prompts ask for, at the price of none."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.sam = untrained_sam(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.parts = nn.Conv2d(PROMPT_WIDTH, (len(PARTS) + 1) * PATCH_SIZE**2, kernel_size=1)

    def loss(self, images: Tensor, parts: Tensor, prompts: Sequence[Prompts]) -> Tensor:
        """images uint8 (N, 3, S, S), parts uint8 (N, S, S), the prompts of each; without prompts, that of the
        image encoder alone."""
        embeddings = self.sam.image_encoder(self.sam.preprocess(images.float()))
        where = functional.pixel_shuffle(self.parts(embeddings), PATCH_SIZE)
        dense = functional.cross_entropy(where, parts.long(), weight=torch.tensor(WEIGHTS))
        if not prompts:
            return dense
        asked = [self._asked(*pair) for pair in zip(embeddings, prompts, strict=True)]
        return dense + torch.stack(asked).mean()

    def _asked(self, embedding: Tensor, prompts: Prompts) -> Tensor:
        """The loss of an image's prompts. A box is answered by the first mask, the single output. A point is
        answered by the other three: the part, the whole, and whichever of them is nearer. (Where the best of
        three was taught each, one answer stood for part and bird alike, and one was never used.)"""
        logits, predicted = self._decode(embedding, prompts)
        n = len(prompts.boxes)
        box_masks, point_masks = (
            torch.from_numpy(masks).float() for masks in (prompts.box_masks, prompts.point_masks)
        )
        of_boxes = mask_loss(logits[:n, 0], box_masks)
        answers, meant = logits[n:, 1:, None], point_masks[:, None]  # every answer with every meaning
        of_pairs = mask_loss(*torch.broadcast_tensors(answers, meant))
        of_points = torch.stack([of_pairs[:, 0, 0], of_pairs[:, 1, 1], of_pairs[:, 2].amin(1)])
        box_iou = true_iou(logits[:n, 0], box_masks)
        point_iou = true_iou(answers, meant).amax(2)
        return (
            of_boxes.mean()
            + of_points.mean()
            + functional.mse_loss(predicted[:n, 0], box_iou)
            + functional.mse_loss(predicted[n:, 1:], point_iou)
        )

    def _decode(self, embedding: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Logits (B + P, 4, S, S) and predicted IoU (B + P, 4): boxes first, then points."""
        points = torch.from_numpy(prompts.points)[:, None], torch.ones(len(prompts.points), 1)
        boxes, dense = self.sam.prompt_encoder(None, torch.from_numpy(prompts.boxes), None)
        clicks, more = self.sam.prompt_encoder(points, None, None)
        return self.sam.mask_decoder.predict_masks(
            image_embeddings=embedding[None],
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=torch.cat([boxes, clicks]),  # two tokens each
            dense_prompt_embeddings=torch.cat([dense, more]),
        )
