"""Whether torch's own attention runs in half precision here."""

import pytest
import torch


def require_attention(dtype: torch.dtype) -> None:
    """Skips where torch's kernels disagree about the processor: told to use their plainest form
    (`ATEN_CPU_CAPABILITY=default`) on one with AMX, bf16 attention packs matrices by instructions that this form
    lacks, and raises. On processors without AMX it does not pack."""
    query = torch.zeros(1, 2, 64, 32, dtype=dtype)
    try:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    except RuntimeError as error:
        pytest.skip(f"torch's attention in {dtype} does not run here: {error}")
