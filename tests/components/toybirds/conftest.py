from collections.abc import Callable
from typing import Any

import pytest

from components.data.generators.toybirds import Toybirds
from components.toybirds.birds import Birds, load_birds


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Birds]:
    """Draws n birds of the test split of a data seed, with other knobs of the generator if given."""

    def draw(seed: int, n: int, **knobs: Any) -> Birds:
        root = tmp_path_factory.mktemp("toybirds") / "data"
        Toybirds(seed=seed, n_train=4, n_val=4, n_test=n, **knobs).generate(root)
        return load_birds(root, "test")

    return draw
