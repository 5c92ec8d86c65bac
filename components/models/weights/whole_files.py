"""Whether a file of weights is whole, by its own format alone: whose numbers they are it does not say."""

import json
import zipfile
from pathlib import Path


def damage(file: Path) -> str:
    """What is wrong with a file of weights, or with a configuration beside them, in one line: a header that
    cannot be read, a length that is not the one that it states, of archives a wrong checksum. Empty if
    nothing is."""
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="np"):
                return ""
        if file.suffix in {".json", ".txt"}:
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".json":
                json.loads(text)
            return ""
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
            return f"{broken} in it has a wrong checksum" if broken else ""
        from components.models.weights.loading import read_checkpoint

        read_checkpoint(file)
    except Exception as error:  # each format's reader has its own
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""
