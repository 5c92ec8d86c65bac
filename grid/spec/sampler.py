"""Optuna's samplers as a spec names them."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import model_validator

from components.data.written import unknown
from grid.spec.strict import Strict

OPTIONS = {  # of each sampler's own those that a text can give; their defaults are Optuna's
    "tpe": ("n_startup_trials", "n_ei_candidates", "multivariate", "group", "constant_liar"),
    "gp": ("n_startup_trials", "deterministic_objective"),
    "qmc": ("qmc_type", "scramble"),
    "random": (),
    "nsga2": ("population_size", "mutation_prob", "crossover_prob", "swapping_prob"),
}
TAKES_CONDITIONS = ("tpe", "gp", "nsga2")  # the others propose whatever was measured
Share = Annotated[float, Ge(0), Le(1)]


class Sampler(Strict):
    """A sampler of Optuna by its name there, and beside it its own options: `tpe`, or
    `{name: tpe, multivariate: true}`."""

    name: Literal["tpe", "gp", "qmc", "random", "nsga2"] = "tpe"
    n_startup_trials: Annotated[int, Ge(1)] | None = None
    n_ei_candidates: Annotated[int, Ge(1)] | None = None
    multivariate: bool | None = None
    group: bool | None = None
    constant_liar: bool | None = None
    deterministic_objective: bool | None = None
    qmc_type: Literal["sobol", "halton"] | None = None
    scramble: bool | None = None
    population_size: Annotated[int, Ge(2)] | None = None
    mutation_prob: Share | None = None
    crossover_prob: Share | None = None
    swapping_prob: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _own(self) -> "Sampler":
        for key in self.options:
            if key not in OPTIONS[self.name]:
                known = OPTIONS[self.name] or ("no option",)
                raise ValueError(f"search.sampler: {unknown(key, known, f'option of {self.name}')}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Those that are given."""
        return {k: v for k, v in self.model_dump().items() if k != "name" and v is not None}
