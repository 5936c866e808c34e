"""Reading studies: the built-in ones, the user's, and what is said about mistakes."""

import pytest

from escapade.data import available
from escapade.errors import StudyError
from escapade.landscape import DoubleWell
from escapade.study import builtin_studies, load_specification
from escapade.study.specification import Grid

GRID = """
[[grid]]
learning_rate = [0.1]
size = [0.1]
"""

GOOD = f"""
[landscape]
data = "breast_cancer"
{GRID}
"""


def written(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def complaint(source):
    with pytest.raises(StudyError) as caught:
        load_specification(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is read


def test_there_are_three_built_in_studies():
    assert set(builtin_studies()) == {"digits", "breast_cancer", "avila"}


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "avila"])
def test_built_in_studies_are_valid(name):
    study = load_specification(name)
    assert study.name == name
    assert study.title == builtin_studies()[name]
    assert study.title.endswith("?")
    assert study.description.strip()
    assert study.landscape.data == name
    assert name in available()
    assert study.landscape.weight_decay > 0
    quick = [grid for grid in study.grid if grid.quick]
    assert 0 < len(quick) < len(study.grid)
    regions = {region for grid in study.grid for region in grid.region}
    assert {"slab", "ball", "sublevel"} <= regions


def test_a_file_is_read_with_defaults_and_single_values(tmp_path):
    text = """
    seed = 7
    [landscape]
    data = "digits"
    widths = 5
    bias = true
    weight_decay = 1
    [training]
    steps = 12
    [[grid]]
    dynamics = "gaussian"
    stiffness = 1
    barrier = [3, 4.5]
    [[grid]]
    learning_rate = [0.1]
    size = [0.1]
    """
    study = load_specification(written(tmp_path, text))
    assert (study.name, study.seed, study.text) == ("mine", 7, text)
    assert "mine" in study.title
    landscape = study.landscape
    assert (landscape.widths, landscape.bias, landscape.weight_decay) == ((5,), True, 1)
    assert (study.training.steps, study.training.batch_size) == (12, 32)
    assert study.grid[0] == Grid(dynamics=("gaussian",), stiffness=(1,), barrier=(3, 4.5))
    assert study.grid[1] == Grid(learning_rate=(0.1,), size=(0.1,))


def test_a_file_may_hold_any_utf_8_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(f'title = "η = 0,1?"\n{GOOD}'.encode())
    assert load_specification(str(path)).title == "η = 0,1?"


def test_a_python_file_gives_a_function_that_builds_the_landscape(tmp_path):
    text = """
from escapade import landscapes

def build():
    return landscapes.DoubleWell()

study = {
    "title": "Well?",
    "landscape": {"build": build},
    "grid": [{"dynamics": "gaussian", "learning_rate": 0.05, "size": (0.1, 0.2)}],
}
"""
    study = load_specification(written(tmp_path, text, "mine.py"))
    assert (study.name, study.title) == ("mine", "Well?")
    assert isinstance(study.landscape.build(), DoubleWell)
    assert study.grid[0].size == (0.1, 0.2)


# What is refused


def test_a_misspelt_study_is_suggested():
    message = complaint("digit")
    assert "'digit'; did you mean digits?" in message
    assert "breast_cancer" in message
    assert ".toml" in message


@pytest.mark.parametrize("name", ["nothing_like_it", "", ".", "/"])
def test_unknown_studies_list_the_known_ones(name):
    message = complaint(name)
    assert f"unknown study {name!r}; choose from avila, breast_cancer, digits" in message


@pytest.mark.parametrize("name", ["none.toml", "none.py"])
def test_a_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    assert f"{path} does not exist" in complaint(str(path))
    path.mkdir()
    assert f"{path} does not exist" in complaint(str(path))


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    assert f"{path} cannot be read as UTF-8" in complaint(str(path))


GRID = "[[grid]]\nlearning_rate = [0.1]\nsize = [0.1]\n"
QUADRATIC = "[landscape]\nfunction = 'quadratic'\neigenvalues = [1.0]\n"
LANDSCAPE = '[landscape]\ndata = "breast_cancer"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rate 0.1", ["not valid TOML", "line 1"]),
        (LANDSCAPE, ["[[grid]]"]),
        (f"{LANDSCAPE}[grid]\nsize = [0.1]", ["[[grid]]"]),
        (f"grid = [1, 2]\n{LANDSCAPE}", ["[[grid]] 1", "is 1", "table"]),
        (f"landscape = 3\n{GRID}", ["[landscape]", "is 3", "table"]),
        (f"speed = 3\n{GOOD}", ["'speed'", "known: name"]),
        (f"seed = 'a'\n{GOOD}", ["seed", "'a'"]),
        (f"seed = -1\n{GOOD}", ["seed", "negative"]),
        (f"description = 3\n{GOOD}", ["description", "3"]),
        (GRID, ["[landscape]", "data", "build"]),
        (f'{LANDSCAPE}build = "f"\n{GRID}', ["[landscape]", "build", "'f'"]),
        (f"{LANDSCAPE}width = [3]\n{GRID}", ["[landscape]", "'width'", "widths"]),
        (f'{LANDSCAPE}widths = "3"\n{GRID}', ["[landscape]", "widths", "'3'"]),
        (f"{LANDSCAPE}widths = [2.5]\n{GRID}", ["[landscape]", "widths", "2.5"]),
        (f'{LANDSCAPE}weight_decay = "a"\n{GRID}', ["[landscape]", "weight_decay", "'a'"]),
        (f"{GOOD}[training]\nepochs = 3", ["[training]", "'epochs'", "steps"]),
        (f"{GOOD}[training]\nsteps = 'a'", ["[training]", "steps", "'a'"]),
        (f"{GOOD}[training]\nsteps = -1", ["[training]", "steps", "negative"]),
        (f"{GOOD}[training]\nlearning_rate = -0.1", ["[training]", "learning_rate", "-0.1"]),
        (f"{GOOD}lr = [3]", ["[[grid]] 1", "'lr'", "learning_rate"]),
        (f"{GOOD}stiffness = [0.2]", ["[[grid]] 1", "either learning_rate or stiffness"]),
        (f"{GOOD}barrier = [3]", ["[[grid]] 1", "either size or barrier"]),
        (f"{GOOD}[[grid]]\nsize = [1]", ["[[grid]] 2", "either learning_rate or stiffness"]),
        (f"{GOOD}[[grid]]\nstiffness = [1]", ["[[grid]] 2", "either size or barrier"]),
        (f"{GOOD}[[grid]]\nstiffness = [0.2]\nbarrier = [-3]", ["[[grid]] 2", "barrier", "-3"]),
        (f"{GOOD}batch_size = [64, 0]", ["[[grid]] 1", "batch_size", "is 0"]),
        (f"{GOOD}batch_size = []", ["[[grid]] 1", "batch_size", "empty"]),
        (f"{GOOD}batch_size = [true]", ["[[grid]] 1", "batch_size", "True"]),
        (f"{GOOD}sharpness = [nan]", ["[[grid]] 1", "sharpness", "nan"]),
        (f"{GOOD}sharpness = [inf]", ["[[grid]] 1", "sharpness", "inf"]),
        (f"{GOOD}replicas = 0", ["[[grid]] 1", "replicas", "is 0"]),
        (f"{GOOD}replicas = 2.5", ["[[grid]] 1", "replicas", "2.5"]),
        (f"{GOOD}max_steps = -1", ["[[grid]] 1", "max_steps", "-1"]),
        (f"{GOOD}patience = -1", ["[[grid]] 1", "patience", "-1"]),
        (f"{GOOD}quick = 'no'", ["[[grid]] 1", "quick", "'no'"]),
        (f"{GOOD}dynamics = ['minibatches']", ["[[grid]] 1", "'minibatches'", "gaussian"]),
        (f"{GOOD}dynamics = []", ["[[grid]] 1", "dynamics", "empty"]),
        (f"{GOOD}dynamics = [['minibatch']]", ["[[grid]] 1", "dynamics"]),
        (f"{GOOD}region = ['basin']", ["[[grid]] 1", "'basin'", "half_space"]),
        (f"{GOOD}noise = ['white']", ["[[grid]] 1", "'white'", "isotropic"]),
        (f"{GOOD}noise = ['isotropic']", ["[[grid]] 1", "'isotropic'", "minibatch"]),
        (f"{GOOD}noise_strength = 2", ["[[grid]] 1", "noise_strength", "measured"]),
        (f"{GOOD}lambda_max = [0]", ["[[grid]] 1", "lambda_max", "is 0"]),
        (f"{GOOD}method = 'wait'", ["[[grid]] 1", "'wait'", "auto"]),
        (f"{GOOD}runs = 1", ["[[grid]] 1", "runs", "at least 2"]),
        (f"{GOOD}burn_in = -1", ["[[grid]] 1", "burn_in", "-1"]),
        (f"[landscape]\nfunction = 'quadratic'\n{GRID}", ["[landscape]", "eigenvalues"]),
        (f"[landscape]\nfunction = 'quartic'\n{GRID}", ["[landscape]", "'quartic'"]),
        (f"[landscape]\nfunction = 'styblinski_tang'\n{GRID}", ["[landscape]", "needs dim"]),
        (f"{QUADRATIC}dim = 2\n{GRID}", ["[landscape]", "dim", "quadratic"]),
        (f"{QUADRATIC}weight_decay = 0.1\n{GRID}", ["[landscape]", "weight_decay", "data"]),
    ],
)
def test_mistakes_are_named_with_file_and_entry(tmp_path, text, named):
    path = written(tmp_path, text)
    message = complaint(path)
    for words in [path, *named]:
        assert words in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def (", "SyntaxError"),
        ("raise ValueError('two\\nlines')", "ValueError"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("x = 1", "must define `study`"),
        ("study = []", "must define `study`"),
        ("study = {'grid': [{'dynamic': 'gaussian'}]}", "'dynamic'"),
        ("study = {'landscape': {'build': int, 'data': 'digits'}, 'grid': [{}]}", "[[grid]] 1"),
    ],
)
def test_mistakes_in_python_files_are_named(tmp_path, text, named):
    path = written(tmp_path, text, "mine.py")
    message = complaint(path)
    assert path in message
    assert named in message


def test_data_and_build_together_are_refused(tmp_path):
    grid = "'grid': [{'learning_rate': 0.1, 'size': 1}]"
    text = f"study = {{'landscape': {{'build': int, 'data': 'digits'}}, {grid}}}"
    assert "either `data`" in complaint(written(tmp_path, text, "mine.py"))
