"""How much each mask of an image counts for the classifier's decision: EAC and its alternatives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge
from numpy.typing import NDArray

from components.data.columns import Column
from components.identity import rng
from components.models.networks.backbone import Backbone
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors, Yield
from components.stages.classifier import Classifier, load_target
from components.studies.explanations import shapley
from components.studies.explanations.shapley import Floats, Sizes, Value
from components.studies.explanations.stages.coalitions import Bits, Coalitions, stored_bits
from components.studies.explanations.surrogate import Surrogate

if TYPE_CHECKING:
    from components.models.networks.network import Network
    from components.studies.explanations.surrogate_network import Head, SoftmaxGame

Estimator = Literal["sobol", "shared", "official", "permutation", "kernel", "exact", "gaussian_process"]
LEAST_HELD_OUT = 3  # coalitions that a share of explained variance can be told of


@dataclass(frozen=True, kw_only=True)
class MaskValues(ColumnStage):
    """`masks`: list of int32, as in `coalitions`; `values`: list of float32, of each of them, larger is more
    evidence for `label` int32, the predicted class. `surrogate_r2` float32: share of the variance of the
    probabilities of held-out coalitions that the surrogate explains; null without surrogate, with fewer than
    LEAST_HELD_OUT of them, and where they do not vary.

    surrogate: the game whose values are estimated, trained on the coalitions but for the first n, which are
    held out, unless the image has all 2^n; null: the values directly, from the classifier's probabilities;
    value: `banzhaf`, which EAC's code estimates, or `shapley` (docs/methods/explanations.md, eq. 9,
    eq. 10); Shapley values rest on the smallest and largest coalitions, so without surrogate they need
    coalitions of uniform sizes, or all of them;
    estimator: see `shapley`; `sobol` is `shared` with a Sobol sequence, which needs a tenth of the
    samples or less; `exact` refuses images with more than 20 masks, `permutation` knows Shapley values only,
    and without surrogate it must be `kernel`, a regression, or `gaussian_process`, which needs fewer
    coalitions than all else (its time grows with their cube: at most a few thousand);
    n_samples: coalitions; `official`: for each mask; `permutation`: orders of the masks; with `sobol` a power
    of two is best.

    An image with a value that is not finite fails.
    """

    DECODES: ClassVar[bool] = False
    PASSES_A_MODEL: ClassVar[bool] = False

    coalitions: Coalitions
    backbone: Backbone
    classifier: Classifier | None
    surrogate: Surrogate | None = Surrogate()
    value: Value = "banzhaf"
    estimator: Estimator = "sobol"
    n_samples: Annotated[int, Ge(1)] = 8192
    seed: int = 0

    def __post_init__(self) -> None:
        check_estimator(self.surrogate, self.value, self.estimator)
        check_coalitions(self.surrogate, self.value, self.coalitions.sizes, self.coalitions.exact_up_to)
        every_class = self.surrogate is not None and self.surrogate.loss == "all_classes"
        if every_class and not self.coalitions.all_classes:
            raise ValueError("surrogate.loss: all_classes needs coalitions with all_classes: true")

    @property
    def batch_size(self) -> int:
        """Images are taken one after the other."""
        return 16

    def describe(self, column: Column) -> Yield:
        """`surrogate_r2`: the median of those that are known. A mean would be that of the images whose
        probabilities hardly vary, where it has no lower bound."""
        known = column.read(column.ids, ["surrogate_r2"])["surrogate_r2"].drop_null()
        if not len(known):
            return Yield()
        r2 = float(np.median(known))
        return Yield({"surrogate_r2": r2}, f"median R2 of the surrogates {r2:.3f}")

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        head = None
        if self.surrogate is not None:
            size = self.coalitions.image_size
            head = _head(load_target(self.backbone, self.classifier, tensors, size, device))

        def explain(batch: Batch) -> Rows:
            rows = batch.inputs["coalitions"].to_pylist()
            found = [
                self._values(row, head, record.image_id)
                for row, record in zip(rows, batch.records, strict=True)
            ]
            columns = {
                "label": pa.array([row["label"] for row in rows], pa.int32()),
                "masks": pa.array([row["masks"] for row in rows], pa.list_(pa.int32())),
                "values": pa.array([values.tolist() for values, _ in found], pa.list_(pa.float32())),
                "surrogate_r2": pa.array([r2 for _, r2 in found], pa.float32()),
            }
            return Rows(columns, 0)

        return explain

    def _values(
        self, row: Mapping[str, Any], head: "Head | None", image_id: int
    ) -> tuple[Floats, float | None]:
        """The values of an image's masks and the surrogate's share of explained variance. Raises ValueError
        where they are not finite."""
        values, r2 = self._estimated(row, head, image_id)
        if not np.isfinite(values).all() or (r2 is not None and not np.isfinite(r2)):
            raise ValueError("the value of a mask is not finite")
        return values, r2

    def _estimated(
        self, row: Mapping[str, Any], head: "Head | None", image_id: int
    ) -> tuple[Floats, float | None]:
        n = len(row["masks"])
        if n == 0:
            return np.zeros(0), None
        bits, worth = stored_bits(row["bits"], n), np.asarray(row["probabilities"], np.float64)
        if head is None:
            ends = np.array([row["empty"], row["union"]], np.float64)
            if self.estimator == "gaussian_process":
                return shapley.gaussian_process(bits, worth, ends, self.value), None
            sizes = "bernoulli" if self.coalitions.complete(n) else self.coalitions.sizes
            weight = shapley.regression_weights(bits, self.value, sizes)
            return shapley.regression(bits, worth, weight, ends, self.value), None
        held_out = 0 if self.coalitions.complete(n) else n
        if len(bits) <= held_out:
            raise ValueError(f"{len(bits)} coalitions of {n} masks, of which the first {n} are held out")
        game = self._fitted(bits[held_out:], row, head, held_out, image_id)
        r2 = _explained(worth[:held_out], game(bits[:held_out]))
        return self._estimate(game, n, rng(self.seed, "values", image_id)), r2

    def _fitted(
        self, bits: Bits, row: Mapping[str, Any], head: "Head", held_out: int, image_id: int
    ) -> "SoftmaxGame":
        from components.studies.explanations.surrogate_network import fit_surrogate

        assert self.surrogate is not None
        targets: NDArray[np.floating] = np.asarray(row["probabilities"], np.float32)
        if self.surrogate.loss == "all_classes":
            targets = np.frombuffer(row["class_probabilities"], np.float16).reshape(len(targets), -1)
        stream = rng(self.seed, "surrogate", image_id)
        return fit_surrogate(bits, targets[held_out:], head, int(row["label"]), self.surrogate, stream)

    def _estimate(self, game: "SoftmaxGame", n: int, stream: np.random.Generator) -> Floats:
        match self.estimator:
            case "exact":
                return shapley.exact(game, n, self.value)
            case "permutation":
                return shapley.permutation(game, n, self.n_samples, stream)
            case "kernel":
                return shapley.kernel(game, n, self.value, self.n_samples, stream)
            case "official":
                return shapley.official(game, n, self.value, self.n_samples, stream)
            case "shared":
                return shapley.shared(game, n, self.value, self.n_samples, stream)
            case "sobol":
                return shapley.shared(game, n, self.value, self.n_samples, stream, "sobol")
            case "gaussian_process":
                raise AssertionError("check_estimator refuses it beside a surrogate")


def check_estimator(surrogate: Surrogate | None, value: Value, estimator: Estimator) -> None:
    """Raises ValueError for what does not go together."""
    if surrogate is None and estimator not in ("kernel", "gaussian_process"):
        raise ValueError(f"without surrogate, estimator must be kernel or gaussian_process, not {estimator}")
    if surrogate is not None and estimator == "gaussian_process":
        raise ValueError("estimator: gaussian_process values the classifier itself; surrogate must be null")
    if estimator == "permutation" and value != "shapley":
        raise ValueError("estimator: permutation estimates Shapley values; value must be shapley")


def check_coalitions(surrogate: Surrogate | None, value: Value, sizes: Sizes, exact_up_to: int) -> None:
    """Raises ValueError for coalitions that a value without surrogate would be noise of."""
    if surrogate is None and value == "shapley" and sizes == "bernoulli" and exact_up_to == 0:
        raise ValueError(
            "without surrogate, value: shapley needs sizes: uniform, or exact_up_to: it rests on the smallest"
            " and largest coalitions, which bernoulli hardly ever draws"
        )


def mask_values(coalitions: Coalitions, **knobs: Any) -> MaskValues:
    """The stage that values the masks of these coalitions, by the last layer of the classifier that they were
    shown to."""
    backbone = replace(coalitions.backbone, precision="fp32")  # a last layer is
    return MaskValues(coalitions=coalitions, backbone=backbone, classifier=coalitions.classifier, **knobs)


def _head(network: "Network") -> "Head":
    """Its last layer. Raises ValueError for one that is neither linear nor absent."""
    import torch
    from torch import nn

    from components.studies.explanations.surrogate_network import Head

    layer, device = network.head, network.mean.device
    if isinstance(layer, nn.Identity):
        return Head(None, torch.zeros(network.width, device=device))
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"the classifier's last layer is {type(layer).__name__}, not linear")
    weight = layer.weight.detach().float()
    return Head(weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().float())


def _explained(truth: Floats, found: Floats) -> float | None:
    """1 - sum of squared errors by that of the deviations from the mean."""
    spread = np.sum((truth - truth.mean()) ** 2) if len(truth) >= LEAST_HELD_OUT else 0.0
    return float(1 - np.sum((truth - found) ** 2) / spread) if spread > 0 else None
