"""Training: first the image side cell by cell, then the whole on prompts. B images, S pixels a side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BackboneOutput

from components.data.generators.toybirds import PARTS
from components.identity import rng
from components.toybirds.birds import Birds
from components.toybirds.detector.dense import Dense
from components.toybirds.detector.losses import set_loss
from components.toybirds.detector.prompts import BIRD, UNKNOWN, Asked, Boxes, ask, choose, true_boxes

DENSE_BATCH, BATCH = 32, 16
DENSE_RATE, RATE, WEIGHT_DECAY, WARM_UP, CLIP = 3e-3, 1e-3, 1e-4, 150, 5.0
DENSE_WEIGHT = 1.0  # of the cell by cell loss beside the detector's own
COPIES = 4  # cells that answer for one box, at the encoder
PART_NAMES = ("background", *PARTS, BIRD)


@dataclass(frozen=True)
class Lessons:
    """Birds with what is true of them: boxes by phrase, and bool (N, P + 2, C) what each part is called."""

    birds: Birds
    boxes: list[Boxes]
    shown: Tensor

    @classmethod
    def of(cls, birds: Birds, phrases: Sequence[str]) -> "Lessons":
        shown = torch.zeros(len(birds), len(PART_NAMES), len(phrases), dtype=torch.bool)
        for i, said in enumerate(birds.shown):
            for part, phrase in (said | {BIRD: BIRD}).items():
                shown[i, PART_NAMES.index(part), phrases.index(phrase)] = True
        return cls(birds, true_boxes(birds), shown)


@dataclass(frozen=True)
class Batch:
    """pixels float32 (B, 3, S, S), prepared; parts uint8 (B, S, S); boxes; shown bool (B, P + 2, C)."""

    pixels: Tensor
    parts: Tensor
    boxes: list[Boxes]
    shown: Tensor


class Training:
    """The detector with the heads that it has while it learns."""

    def __init__(self, model: Any, processor: Any, phrases: Sequence[str], seed: int) -> None:
        self.model, self.phrases, self.seed = model, list(phrases), seed
        self.tokenizer = processor.tokenizer
        prepare = processor.image_processor
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (prepare.image_mean, prepare.image_std))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.dense = Dense(model.config.d_model, model.config.num_feature_levels, len(phrases))
        backbone = model.model.backbone.conv_encoder.model
        # faster where the hardware has bfloat16
        backbone.forward = torch.autocast("cpu", torch.bfloat16)(backbone.forward)
        backbone.register_forward_hook(_to_float)
        self.maps: list[Tensor] = []  # what the projections gave last
        for projection in model.model.input_proj_vision:
            projection.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, made: Tensor) -> None:
        self.maps.append(made)

    def batch(self, lessons: Lessons, n: int, random: np.random.Generator) -> Batch:
        """`n` birds, each mirrored half of the time."""
        rows = random.integers(0, len(lessons.birds), n)
        mirrored = random.random(n) < 0.5
        images, parts = lessons.birds.images[rows], lessons.birds.parts[rows]
        images[mirrored], parts[mirrored] = images[mirrored, :, ::-1], parts[mirrored, :, ::-1]
        size = images.shape[1]
        boxes = [
            {p: mirror(b, size) for p, b in lessons.boxes[i].items()} if m else lessons.boxes[i]
            for i, m in zip(rows, mirrored, strict=True)
        ]
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return Batch(pixels, torch.from_numpy(parts), boxes, lessons.shown[rows])

    def dense_loss(self, batch: Batch) -> Tensor:
        """Of the backbone and the projections of its maps alone."""
        base = self.model.model
        self.maps.clear()
        levels = base.backbone.conv_encoder.model(batch.pixels).feature_maps
        for projection, level in zip(base.input_proj_vision, levels, strict=True):
            projection(level)
        return self.dense.loss(self.maps, batch.parts, batch.shown)

    def joint_loss(self, batch: Batch, asked: Asked) -> Tensor:
        """Of the encoder's proposals, of every layer of the decoder, and of the maps."""
        self.maps.clear()
        out = self.model.model(pixel_values=batch.pixels, **asked.texts)
        real = asked.texts["attention_mask"].bool()
        t = real.shape[1]
        loss = set_loss(
            out.enc_outputs_class[..., :t],
            out.enc_outputs_coord_logits.sigmoid(),
            asked.boxes,
            asked.words,
            real,
            COPIES,
        )
        for logits, boxes in self._decoded(out, real):
            loss = loss + set_loss(logits[..., :t], boxes, asked.boxes, asked.words, real)
        return loss + DENSE_WEIGHT * self.dense.loss(self.maps, batch.parts, batch.shown)

    def _decoded(self, out: Any, real: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and boxes after each layer, as the library's forward pass puts them together."""
        references = [out.init_reference_points, *out.intermediate_reference_points.unbind(1)]
        for i, hidden in enumerate(out.intermediate_hidden_states.unbind(1)):
            logits = self.model.class_embed[i](hidden, out.encoder_last_hidden_state_text, real)
            moved = self.model.bbox_embed[i](hidden) + torch.special.logit(references[i], eps=1e-5)
            yield logits, moved.sigmoid()

    def learn_cells(self, lessons: Lessons, steps: int) -> None:
        """The first part: the image side, cell by cell."""
        random = rng(self.seed, "toybirds_detector", "cells")
        base = self.model.model
        modules = [base.backbone, base.input_proj_vision, self.dense]
        self._run(
            [p for module in modules for p in module.parameters()],
            DENSE_RATE,
            steps,
            lambda: self.dense_loss(self.batch(lessons, DENSE_BATCH, random)),
            "cells",
        )

    def learn_prompts(self, lessons: Lessons, steps: int, watch: Callable[[int], None]) -> None:
        """The second part: the whole detector. `watch` is called with the step."""
        random = rng(self.seed, "toybirds_detector", "prompts")

        def loss() -> Tensor:
            batch = self.batch(lessons, BATCH, random)
            phrases = choose(random, [*self.phrases, UNKNOWN], BATCH)
            asked = ask(self.tokenizer, phrases, batch.boxes, batch.pixels.shape[-1])
            return self.joint_loss(batch, asked)

        weights = [*self.model.parameters(), *self.dense.parameters()]
        self._run(weights, RATE, steps, loss, "prompts", watch)

    def _run(
        self,
        weights: list[nn.Parameter],
        rate: float,
        steps: int,
        loss_of_next: Callable[[], Tensor],
        name: str,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """Warm-up, a constant rate, and down to nothing over the second half."""
        optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / WARM_UP, 1.0, 2 * (1 - step / steps))
        )
        self.model.train()
        total = 0.0
        for step in range(1, steps + 1):
            loss = loss_of_next()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimiser.step()
            schedule.step()
            total += loss.item()
            if step % 100 == 0:
                print(f"{name} {step}  loss {total / 100:.3f}", flush=True)
                total = 0.0
            if watch is not None:
                watch(step)


def _to_float(module: nn.Module, given: Any, made: Any) -> Any:
    return BackboneOutput(feature_maps=tuple(level.float() for level in made.feature_maps))


def mirror(box: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """x0 y0 x1 y1 in an image of `size` pixels a side that is mirrored left to right."""
    return np.array([size - box[2], box[1], size - box[0], box[3]], np.float32)
