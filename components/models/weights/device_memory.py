"""When an accelerator's memory runs out: how that is told, and how what is left over is given back."""

import sys


def out_of_memory(error: Exception) -> bool:
    """Torch has a class for it on accelerators, and words on CPUs."""
    name, text = type(error).__name__, str(error).lower()
    return name in {"OutOfMemoryError", "MemoryError"} or "out of memory" in text or "can't allocate" in text


def free_memory() -> None:
    """Gives cached blocks back, so that a smaller attempt does not fail on the larger one's leftovers."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
