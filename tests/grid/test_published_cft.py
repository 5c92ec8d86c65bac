"""The numbers that CFT's paper reports, as the data set that repeats its tables has them."""

import csv
from collections import Counter

from components.data.card import DATASETS
from components.data.readers.imagenet_shifts import FOLDERS, IMAGENET, SEGMENTATION
from components.method import Method
from grid.names import names

with (DATASETS / "imagenet_shifts" / "reported.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
SETS = {IMAGENET, *FOLDERS} - {SEGMENTATION}


def test_table_1_has_nine_sets_four_networks_and_five_methods() -> None:
    table = [row for row in ROWS if row["table_name"] == "Table 1"]
    assert Counter(row["group_name"] for row in table) == dict.fromkeys(SETS, 4 * 5)
    assert Counter(row["row_name"] for row in table) == dict.fromkeys(
        ("Original", "GradMask", "RRR", "RRDA", "CFT"), 9 * 4
    )
    assert {row["group_name"] for row in ROWS} == SETS | {"all"}


def test_one_configuration_has_a_number_in_every_table() -> None:
    """ViT-B by CFT on ImageNet-A: the tables contradict each other, and each has its own."""
    rows = {"CFT", "concept masks", "AttnLRP"}
    of = {
        row["table_name"]: float(row["value"])
        for row in ROWS
        if row["setting"] == "ViT-B, ImageNet-A" and row["row_name"] in rows
    }
    expected = {
        "Table 1": 0.2776,
        "Table 5": 0.2605,
        "Table 6": 0.2411,
        "Table 7": 0.2782,
        "supplement": 0.2792,
    }
    assert of == expected


def test_numbers_of_the_network_before_stand_beside_the_start_and_all_methods_but_one_exist() -> None:
    assert all((row["selection"] == "start") == (row["row_name"] == "Original") for row in ROWS)
    assert {row["method"] for row in ROWS} - set(names(Method.FOLDER)) == {"rrda"}
