"""Toy birds whose test images are corrupted: CIFAR-10-C in small, with the truth about every pixel."""

import csv
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge
from PIL import Image

from components.data.drawing.corruption_strengths import SEVERITIES
from components.data.drawing.corruptions import CORRUPTIONS, GlassBlur, corrupted
from components.data.generators.toybirds import SPLITS, Toybirds
from components.data.images import decode
from components.identity import rng

__all__ = ["Corrupted"]

TEST = str(SPLITS.index("test"))
COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename", "corruption", "severity")

_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """A clean data set with its test images replaced by all their corruptions, at all severities.

    Training and validation are the source's. The masks of a corrupted image are those of the clean one, also
    where pixels move: by elastic_transform, glass_blur, motion_blur and zoom_blur they fit less well.

    source: what draws the clean images; its n_test is the number of images of every pair of corruption and
    severity;
    glass_blur: copies pixels, as in the published code, or lets them change places, as intended.
    """

    VERSION: ClassVar[int] = 2

    source: Toybirds = Toybirds(n_test=100)
    corruptions: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES
    glass_blur: GlassBlur = "published"
    seed: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        for values, known in ((self.corruptions, CORRUPTIONS), (self.severities, SEVERITIES)):
            strange = [value for value in values if value not in known]
            if strange or not values or len(set(values)) < len(values):
                allowed = ", ".join(map(str, known))
                raise ValueError(f"{list(values)}: expected some of {allowed}, each once")

    def generate(
        self, root: Path, progress: Callable[[int, int], None] | None = None, workers: int = 1
    ) -> None:
        """Draw the data set into `root`, which appears only when it is complete.

        root/metadata.csv    the Waterbirds release's columns, corruption and severity; both empty if clean
        root/images/<stem>.jpg, root/masks/<stem>.png, root/parts/<stem>.png
                             of training and validation: the source's
        root/images/<corruption>-<severity>/<stem>.png, and so in root/masks and root/parts
                             of test

        The bytes depend on the knobs alone. `progress(done, total)` is called per image.
        Raises FileExistsError where `root` exists; what a killed run left behind is cleared.
        """
        root = Path(root)
        if root.exists():
            raise FileExistsError(f"{root} exists; remove it to generate the data set again")
        partial, clean = (root.with_name(f".{root.name}.{what}") for what in ("partial", "clean"))
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(clean, ignore_errors=True)
        n_clean = self.source.n_train + self.source.n_val + self.source.n_test
        total = n_clean + self.source.n_test * len(self.corruptions) * len(self.severities)

        def drawn(done: int, _: int) -> None:
            if progress is not None:
                progress(done, total)

        self.source.generate(clean, drawn, workers)
        with (clean / "metadata.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        kept = [row for row in rows if row["split"] != TEST]
        for row in kept:
            self._keep(row, clean, partial)
        test = [row for row in rows if row["split"] == TEST]
        told = [{**row, "corruption": "", "severity": ""} for row in kept]
        for done, made in enumerate(self._corrupt_all(test, clean, partial, workers), start=n_clean + 1):
            told.append(made)
            drawn(done, total)
        _write_metadata(partial, told)
        shutil.rmtree(clean)
        partial.rename(root)

    def _keep(self, row: _Row, clean: Path, folder: Path) -> None:
        for path in _files(row["img_filename"]):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (clean / path).rename(folder / path)

    def _corrupt_all(self, rows: list[_Row], clean: Path, folder: Path, workers: int) -> Iterator[_Row]:
        """Writes the corrupted pictures; yields their rows in order."""
        cells = list(product(self.corruptions, self.severities))
        for cell in cells:
            for kind in ("images", "masks", "parts"):
                (folder / kind / _name(*cell)).mkdir(parents=True)
        tasks = [(row, *cell) for cell in cells for row in rows]
        arguments = [list(values) for values in zip(*tasks, strict=True)]
        places = [clean] * len(tasks), [folder] * len(tasks)
        if workers == 1:
            yield from map(self._write, *arguments, *places)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            yield from pool.map(self._write, *arguments, *places, chunksize=64)

    def _write(self, row: _Row, corruption: str, severity: int, clean: Path, folder: Path) -> _Row:
        source, *masks = _files(row["img_filename"])
        cell = _name(corruption, severity)
        for mask in masks:
            shutil.copyfile(clean / mask, folder / mask.parent / cell / mask.name)
        random = rng(self.seed, "corrupted", corruption, severity, int(row["img_id"]))
        pixels = corrupted(decode(clean / source), corruption, severity, random, self.glass_blur)
        target = source.parent / cell / f"{source.stem}.png"
        Image.fromarray(pixels).save(folder / target, compress_level=1)
        return {**row, "img_filename": target.as_posix(), "corruption": corruption, "severity": severity}


def _write_metadata(folder: Path, rows: list[_Row]) -> None:
    """The rows under new ids, since a test image occurs many times."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "img_id": img_id} for img_id, row in enumerate(rows))


def _name(corruption: str, severity: int) -> str:
    return f"{corruption}-{severity}"


def _files(image: str) -> list[Path]:
    """Of an image: itself, its mask, its parts."""
    stem = Path(image).stem
    return [Path(image), Path("masks") / f"{stem}.png", Path("parts") / f"{stem}.png"]
