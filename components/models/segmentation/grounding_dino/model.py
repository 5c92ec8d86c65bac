"""A GroundingDINO in memory. I images, N pairs of an image and a prompt, Q queries, T tokens, S boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.modeling_outputs import BackboneOutput

from components.models.segmentation.detector import Answers, Detections, Question
from components.models.segmentation.grounding_dino.knobs import GroundingDinoKnobs
from components.models.segmentation.grounding_dino.prompts import prompts
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.loading import WrongWeights, load_folder
from components.models.weights.precision import dtype_of

PAIRS_AT_ONCE = 4  # bounds the memory of a pass: at full size a pair takes over 2 GB in fp32
DELIMITERS = ["[CLS]", "[SEP]", ".", "?"]  # what the model's code splits a text at, by number

Floats = NDArray[np.float32]
Encoded = tuple[tuple[Tensor, ...], Tensor]  # the backbone's maps (1, ., ., .) of an image, and `inside`


class GivenMaps(nn.Module):
    """Stands for the image backbone, which does not see the text: gives the maps that it gave before."""

    maps: tuple[Tensor, ...] = ()

    def forward(self, pixels: Tensor, return_dict: bool = True) -> BackboneOutput:
        return BackboneOutput(feature_maps=self.maps)  # type: ignore[arg-type]


class GroundingDinoModel:
    """A loaded GroundingDINO."""

    def __init__(self, detector: GroundingDinoKnobs, device: str) -> None:
        folder = find_checkpoint(detector.checkpoint)
        self._model = load_folder(GroundingDinoForObjectDetection, folder, torch.float32).to(device)
        try:
            processor = GroundingDinoProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # each file's reader has its own
            raise WrongWeights(f"weights {folder}: {str(error).splitlines()[0]}") from error
        self._prepare, self._tokenizer = processor.image_processor, processor.tokenizer
        numbers = self._tokenizer.convert_tokens_to_ids(DELIMITERS)
        if numbers != self._model.model.special_tokens.tolist():
            raise WrongWeights(f"weights {folder}: the tokenizer's vocabulary is not that of the model")
        self._detector = detector
        self._device, self._dtype = torch.device(device), dtype_of(detector.precision, device)
        encoder = self._model.model.backbone.conv_encoder
        self._backbone, self._given = encoder.model, GivenMaps()
        encoder.model = self._given

    def detect(self, questions: Sequence[Question]) -> Answers:
        """The boxes of every question, and how many pairs were passed through the model."""
        per_prompt, limit = self._detector.concepts_per_prompt, self._model.config.max_text_len
        pairs = [
            (number, prompt)
            for number, question in enumerate(questions)
            for prompt in prompts(question.concepts, self._tokenizer, per_prompt, limit)
        ]
        found: list[list[Detections]] = [[] for _ in questions]
        encoded: dict[int, Encoded] = {}
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            numbers = dict.fromkeys(number for number, _ in part)
            encoded = {n: encoded.get(n) or self._encode(questions[n].image) for n in numbers}
            texts = self._tokens([prompt.text for _, prompt in part])
            characters = texts.pop("offset_mapping").numpy()  # (N, T, 2)
            scores, boxes = self._forward([encoded[number] for number, _ in part], texts)
            for row, (number, prompt) in enumerate(part):
                corners = _corners(boxes[row], *questions[number].image.shape[:2])
                for concept, tokens in zip(prompt.concepts, prompt.tokens(characters[row]), strict=True):
                    found[number].append(self._above(corners, concept, scores[row][:, tokens].max(axis=1)))
        return Answers([_joined(detections) for detections in found], len(pairs))

    def _tokens(self, texts: list[str]) -> Any:
        return self._tokenizer(texts, padding=True, return_offsets_mapping=True, return_tensors="pt")

    def _autocast(self) -> torch.autocast:
        """Weights in bf16 would round the coordinates too, to 1/256 of the image."""
        half = self._dtype is not torch.float32
        return torch.autocast(self._device.type, self._dtype if half else None, enabled=half)

    def _encode(self, image: NDArray[np.uint8]) -> Encoded:
        """What the backbone gives of the image, padded to (side, side), and where it is not padding."""
        side = self._detector.longest_edge
        fitting = get_size_with_aspect_ratio(image.shape[:2], self._detector.shortest_edge, side)
        # By the library's rule some edges stay longer (600 x 1334 as it is) and a thin one vanishes.
        height, width = (min(max(edge, 1), side) for edge in fitting)
        prepared = self._prepare(
            images=image.copy(),  # torch warns of arrays that cannot be written to
            size={"height": height, "width": width},
            pad_size={"height": side, "width": side},
            input_data_format="channels_last",
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode(), self._autocast():
            maps = self._backbone(prepared["pixel_values"]).feature_maps
        return maps, prepared["pixel_mask"].bool()

    def _forward(self, images: Sequence[Encoded], texts: Any) -> tuple[Floats, Floats]:
        """Of N pairs: scores (N, Q, T) in [0, 1]; boxes (N, Q, 4), centre and size in shares of the image."""
        maps, inside = zip(*images, strict=True)
        self._given.maps = tuple(torch.cat(level) for level in zip(*maps, strict=True))
        mask = torch.cat(inside)
        with torch.inference_mode(), self._autocast():  # of its first input the model reads the shape only
            output = self._model(pixel_values=mask[:, None], pixel_mask=mask, **texts.to(self._device))
        logits = output.logits[..., : texts["input_ids"].shape[1]]  # the rest is padding
        return logits.float().sigmoid().cpu().numpy(), output.pred_boxes.float().cpu().numpy()

    def _above(self, corners: Floats, concept: int, scores: Floats) -> Detections:
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > self._detector.stored_threshold]
        return Detections(corners[order], np.full(len(order), concept, np.int64), scores[order])


def _corners(boxes: Floats, height: int, width: int) -> Floats:
    """Centre and size in shares of an image as x0 y0 x1 y1 in its pixels, inside it: (Q, 4)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    size = np.array([width, height, width, height], np.float32)
    return (np.concatenate([centre - half, centre + half], axis=1) * size).clip(0, size)


def _joined(parts: Sequence[Detections]) -> Detections:
    return Detections(
        np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.concepts for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
    )
