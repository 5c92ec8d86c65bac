"""How similar two texts are, as LF-CBM measures it: a sentence encoder and CLIP together."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

CLIP_WEIGHT = 3  # of 4: the cosines of the sentence encoder are spread more widely


def load_encoders(
    clip: str, sentence_encoder: str, device: str
) -> Callable[[Sequence[str]], NDArray[np.float64]]:
    """What turns texts into unit vectors (K, D), such that the dot product of two is
    (sentence cosine + 3 CLIP cosine) / 4.

    clip, sentence_encoder: names of checkpoints; both read a text as it is, in float32. MissingWeights,
    WrongWeights or ValueError if one is not there or does not fit; called with a text that is too long for
    CLIP, ValueError.
    """
    from components.models.clip.clip import Clip
    from components.vocabularies.sentence_encoder import SentenceEncoder

    of_sentences = SentenceEncoder(sentence_encoder, device)
    of_clip = Clip(checkpoint=clip, precision="fp32").load(device)
    return lambda texts: combined(of_sentences.embed(texts), of_clip.embed_texts(texts))


def combined(sentences: NDArray[np.float32], clips: NDArray[np.float32]) -> NDArray[np.float64]:
    """Unit vectors of the two encoders, side by side, weighted so that their cosines add up as said."""
    share = CLIP_WEIGHT / (1 + CLIP_WEIGHT)
    parts = [np.sqrt(1 - share) * np.float64(sentences), np.sqrt(share) * np.float64(clips)]
    return np.concatenate(parts, axis=1)
