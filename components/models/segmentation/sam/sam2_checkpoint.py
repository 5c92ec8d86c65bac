"""SAM 2 checkpoints (Ravi et al., arXiv 2408.00714) in transformers' form: a folder."""

from pathlib import Path

import torch
from transformers import Sam2Model, Sam2Processor

from components.models.weights.loading import WrongWeights, load_folder
from components.models.weights.mixed_precision import run_in


def load_sam2(folder: Path, device: str, dtype: torch.dtype) -> tuple[Sam2Model, Sam2Processor]:
    """Model in evaluation mode and processor; encoder and mask decoder run in `dtype`, prompts and mask
    logits are float32.

    Raises WrongWeights for a folder that is broken, not of a SAM 2, or has no processor.
    """
    model = load_folder(Sam2Model, folder, torch.float32).to(device)
    try:
        processor = Sam2Processor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # each format's reader has its own
        raise WrongWeights(f"weights {folder}: no processor: {str(error).splitlines()[0]}") from error
    run_in(model.vision_encoder, dtype)
    run_in(model.mask_decoder, dtype)
    return model, processor
