"""A sentence encoder of the sentence-transformers family, such as all-mpnet-base-v2, through transformers."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.loading import WrongWeights, load_folder

TEXTS_AT_ONCE = 256
VOCABULARIES = ("tokenizer.json", "vocab.txt")  # without, transformers takes every word for unknown


class SentenceEncoder:
    """checkpoint: a folder that `save_pretrained` wrote, model and tokenizer, of an encoder whose vector is
    the mean over tokens. Nothing is fetched.

    Raises MissingWeights if it is not there, WrongWeights if it cannot be read or lacks tensors or a
    vocabulary.
    """

    def __init__(self, checkpoint: str, device: str) -> None:
        folder = find_checkpoint(checkpoint)
        self._model = load_folder(AutoModel, folder, torch.float32).to(device)
        self._device = device
        if not any((folder / name).is_file() for name in VOCABULARIES):
            raise WrongWeights(f"weights {folder}: no {' or '.join(VOCABULARIES)}")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # each tokenizer's reader has its own
            raise WrongWeights(f"weights {folder}: {(str(error) or repr(error)).splitlines()[0]}") from error

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (K, D) of K >= 1 texts: the mean of the last layer over a text's tokens, those
        that open and close it among them, padding left out."""
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                part = list(texts[start : start + TEXTS_AT_ONCE])
                tokens = self._tokenizer(part, padding=True, return_tensors="pt").to(self._device)
                hidden = self._model(**tokens).last_hidden_state
                inside = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                total = (hidden * inside).sum(1)  # of the mean's direction
                vectors.append(normalize(total, dim=-1).cpu().numpy())
        return np.concatenate(vectors)
