"""What a stage is: a deterministic computation that several trials can share.

A stage is a frozen dataclass of its parameters. A field that is a stage is an input; a field that is
a model may name a `checkpoint`. Nothing here loads a model: that happens in the process that runs it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.mask_files import Meaning
from components.data.sample import Sample
from components.identity import component_name

if TYPE_CHECKING:
    from components.data.columns import Column, Data

Tensors = Mapping[str, NDArray[Any]]
Preparation = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class ImageRecord:
    """Where one image and its masks lie (absolute paths; None where the data set has no such mask), and what
    the card says of the masks' values."""

    image_id: int
    path: Path
    mask: Path | None = None
    part_mask: Path | None = None
    mask_values: Meaning = None


@dataclass(frozen=True)
class Batch:
    """What a column stage is given: B images and the rows of its inputs.

    images: B arrays uint8 (H, W, 3), as the stage's preparation left them; sizes may differ. inputs: by
    field name, an Arrow table of the input stage's columns with B rows in the same order.
    sizes: of the images as decoded; without them, the images are as decoded.
    """

    records: list[ImageRecord]
    images: list[NDArray[np.uint8]]
    inputs: dict[str, pa.Table]
    sizes: list[Size] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.sizes:
            object.__setattr__(self, "sizes", [image.shape[:2] for image in self.images])

    def __len__(self) -> int:
        return len(self.records)

    def part(self, rows: slice) -> "Batch":
        """The batch of some of the rows."""
        inputs = {
            name: table.slice(rows.start, rows.stop - rows.start) for name, table in self.inputs.items()
        }
        return Batch(self.records[rows], self.images[rows], inputs, self.sizes[rows])


@dataclass(frozen=True)
class Rows:
    """What a column stage returns: its columns with B rows each, and how many inputs its model saw."""

    columns: dict[str, pa.Array]
    model_inputs: int


BatchMap = Callable[[Batch], Rows]


@dataclass(frozen=True)
class Yield:
    """What a stage got out of a whole data set. numbers: for its manifest; text: the same in a few words, for
    the log, `status` and the report; warning: what every trial carries that reads the stage. All may be
    empty."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Base of all stages; one file each in FOLDERS. VERSION is raised when the same parameters would give
    other content."""

    FOLDERS: ClassVar[tuple[str, ...]] = ("components.stages", "components.studies.*.stages")
    VERSION: ClassVar[int] = 1
    READS_IMAGES: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        """The name of the file that defines the stage."""
        return component_name(self)

    def inputs(self) -> dict[str, "Stage"]:
        """The stages this one reads, by field name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Stage)}


@dataclass(frozen=True, kw_only=True)
class ColumnStage(Stage):
    """A map from images to columns. An image that raises becomes a failure row with the reason.

    DECODES: whether the stage looks at the images themselves, or at its inputs alone.
    PASSES_A_MODEL: whether a model reads each image, or it is arithmetic: for the plan's count of passes.
    sample: which images, where not all of the data set; the columns that it reads must have them.
    """

    DECODES: ClassVar[bool] = True
    PASSES_A_MODEL: ClassVar[bool] = True

    sample: Sample | None = None

    @property
    def batch_size(self) -> int:
        """Images that its model gets at once, where the spec's resources do not say."""
        return 64

    def preparation(self) -> Preparation | None:
        """What is done to each decoded image before it travels to the model, in tasks on CPUs beside it:
        resizing, above all. None: nothing. It reads the model's configuration and never its weights."""
        return None

    def describe(self, column: "Column") -> Yield:
        """What a reader should know of the whole column; it reads little."""
        return Yield()

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        """The map with its model in memory, on `device`.

        tensors: the content of those inputs that are tensor stages, by field name.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TensorStage(Stage):
    """A computation whose result is a few named tensors: trained weights, text embeddings."""

    def compute(self, data: "Data", device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        """The tensors. data: the data set, with what the input stages wrote by field name: columns as
        `data[name]`, tensors as `data.tensors(name)`. `report(step, **metrics)` streams progress."""
        raise NotImplementedError


def sampled(stage: Stage, sample: Sample) -> Stage:
    """The same stage of these images only, and so every column stage that it reads. What tensor stages read
    stays whole: a classifier is trained on its training split."""
    if not isinstance(stage, ColumnStage):
        return stage
    inputs = {name: sampled(value, sample) for name, value in stage.inputs().items()}
    return dataclasses.replace(stage, sample=sample, **inputs)


def fixed_size_lists(values: NDArray[Any]) -> pa.FixedSizeListArray:
    """(B, D) as an Arrow array of B lists of D numbers."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def ragged_lists(values: pa.Array, counts: list[int]) -> pa.ListArray:
    """Arrow array of len(counts) lists cut from `values` one after the other."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values)
