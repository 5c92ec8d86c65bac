"""What became of every concept that was named: kept, or dropped by which filter and because of what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.vocabularies.answers import Answers
from components.vocabularies.filters import FILTERS, Dropped, Filters


@dataclass(frozen=True)
class Report:
    """kept: concepts, each with the classes about which it was answered; dropped: in the order of filters."""

    dataset: str
    answers: Answers
    kinds: Sequence[str]
    filters: Filters
    clip: str
    sentence_encoder: str
    kept: Mapping[str, Sequence[str]]
    dropped: Sequence[Dropped]

    @property
    def counts(self) -> dict[str, int]:
        """Concepts that each filter dropped, in the order of filters."""
        return {name: sum(one.filter == name for one in self.dropped) for name in FILTERS}

    @property
    def named(self) -> int:
        """Concepts before any filter."""
        return len(self.kept) + len(self.dropped)

    def as_json(self) -> dict[str, Any]:
        """Everything but the answers themselves."""
        return {
            "dataset": self.dataset,
            "prompts": list(self.kinds),
            "model": self.answers.model,
            "provider": self.answers.provider,
            "temperature": self.answers.temperature,
            "max_tokens": self.answers.max_tokens,
            "filters": asdict(self.filters),
            "clip": self.clip,
            "sentence_encoder": self.sentence_encoder,
            "counts": {"named": self.named, **self.counts, "kept": len(self.kept)},
            "kept": {concept: list(classes) for concept, classes in self.kept.items()},
            "dropped": [asdict(one) for one in self.dropped],
        }

    def text(self) -> str:
        """The report as a file."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"

    def vocabulary(self) -> str:
        """A vocabulary file: how it was made, then a concept a line."""
        dropped = ", ".join(f"{count} by {name}" for name, count in self.counts.items())
        limits = ", ".join(f"{name} {value}" for name, value in asdict(self.filters).items())
        comments = (
            f"made by `python -m grid concepts {self.dataset}`: prompts {', '.join(self.kinds)}",
            f"language model {self.answers.model}, temperature {self.answers.temperature}",
            f"filters: {limits}",
            f"similarity: sentence encoder {self.sentence_encoder}, CLIP {self.clip}",
            f"kept {len(self.kept)} of {self.named} concepts; dropped {dropped}",
        )
        return "".join([*(f"# {line}\n" for line in comments), *(f"{concept}\n" for concept in self.kept)])
