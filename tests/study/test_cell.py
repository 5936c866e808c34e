"""A cell's name and random key depend on the cell, and on nothing else."""

from dataclasses import asdict, replace

import pytest

from escapade.study import Cell
from escapade.study.cell import ADDED

CELL = Cell("minibatch", 0.1, 64, 1.0, "slab", 0.25, 512, 1000)


def test_identity_and_key_are_frozen():
    # If these change, every results folder in the world is recomputed with other random numbers.
    assert CELL.identity == "724887664a39"
    assert CELL.key(0) == 9919942772120104990
    assert CELL.key(1) == 10846110659580338160


def test_identity_does_not_depend_on_the_order_of_entries():
    assert Cell(**dict(reversed(asdict(CELL).items()))).identity == CELL.identity


@pytest.mark.parametrize(
    "change",
    [
        {"dynamics": "gaussian"},
        {"learning_rate": 0.1 + 1e-16 * 8},
        {"batch_size": 65},
        {"batch_size": 64.5},
        {"sharpness": 2.0},
        {"region": "ball"},
        {"size": 0.250001},
        {"replicas": 513},
        {"max_steps": 1001},
        {"noise": "isotropic"},
        {"noise_strength": 2.0},
        {"lambda_max": 2.0},
        {"runs": 16},
        {"burn_in": 500},
    ],
    ids=str,
)
def test_every_entry_changes_identity_and_key(change):
    other = replace(CELL, **change)
    assert other.identity != CELL.identity
    assert other.key(0) != CELL.key(0)


@pytest.mark.parametrize("change", [{"batch_size": 64.0}, {"sharpness": 1}], ids=str)
def test_equal_cells_have_one_identity(change):
    # TOML tells 1 from 1.0; a study written with either is the same study.
    other = replace(CELL, **change)
    assert other == CELL
    assert other.identity == CELL.identity
    assert replace(CELL, learning_rate=1, size=2) == replace(CELL, learning_rate=1.0, size=2.0)
    whole, real = replace(CELL, learning_rate=1, size=2), replace(CELL, learning_rate=1.0, size=2.0)
    assert whole.identity == real.identity


def test_entries_of_later_versions_do_not_count_at_their_defaults():
    given = Cell(*asdict(CELL).values())
    old = {name: value for name, value in asdict(CELL).items() if name not in ADDED}
    assert Cell(**old) == given == CELL
    one, other = replace(CELL, lambda_max=2), replace(CELL, lambda_max=2.0)
    assert one.identity == other.identity


def test_a_cell_says_what_it_is():
    assert str(CELL) == "minibatch, eta 0.1, B 64, slab 0.25"
    scaled = replace(CELL, dynamics="minibatch_shuffled_epochs", sharpness=0.5, region="half_space")
    assert str(scaled) == (
        "minibatch shuffled epochs, eta 0.1, B 64, sharpness x0.5, half-space 0.25"
    )
    noisy = replace(CELL, dynamics="gaussian", noise="hessian", noise_strength=0.5, lambda_max=3)
    assert str(noisy) == (
        "gaussian with hessian noise x0.5, eta 0.1, B 64, lambda_max 3, slab 0.25"
    )
