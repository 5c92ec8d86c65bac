"""Loaded at the start of every Python process of a test's grid: counts what CLIP's image tower really sees, by
writing to COUNTED_LOG, and slows models down where a test wants to be in time to kill something.

A test's own witness, outside of what the product says of itself.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from types import ModuleType

WATCHED = {"components.models.clip.clip", "components.studies.seg_mil.training"}


def _watch(module: ModuleType) -> None:
    if module.__name__ == "components.models.clip.clip":
        embed = module.ClipModel._embed

        def counted(self, pixels):
            with open(os.environ["COUNTED_LOG"], "a") as log:
                log.write(f"{os.getpid()} {len(pixels)}\n")
            time.sleep(float(os.environ.get("SLOW_IMAGE", "0")) * len(pixels))
            return embed(self, pixels)

        module.ClipModel._embed = counted
    else:
        fit = module.fit_head

        def slow(*arguments):
            time.sleep(float(os.environ.get("SLOW_FIT", "0")))
            return fit(*arguments)

        module.fit_head = slow


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _watch(module)

        spec.loader.exec_module = exec_module
        return spec


if "COUNTED_LOG" in os.environ:
    sys.meta_path.insert(0, _Finder())
