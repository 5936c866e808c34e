"""Networks described by files: what is built, from which numbers, and how mistakes are told."""

import sys

import equinox as eqx
import jax
import numpy as np
import pytest

import escapade as esc
from escapade.errors import DataError, EscapadeError, InvalidArgument, StudyError
from escapade.inspection.specification import load_subject

INPUTS = np.random.default_rng(0).normal(size=(12, 3))
TARGETS = np.arange(12) % 2

NETS = """
import equinox as eqx, jax, numpy as np
import neighbour

class Linear(eqx.Module):
    weight: jax.Array
    dropout: eqx.nn.Dropout
    def __init__(self, scale=1.0):
        self.weight = scale * np.ones((2, 3))
        self.dropout = eqx.nn.Dropout(0.5)
    def __call__(self, x):
        return self.weight @ self.dropout(x)

def apart(scale=1.0):
    return (lambda parameters, x: parameters["layer"]["w"] @ x), {"layer": {"w": scale * np.ones((2, 3))}}

def rows(count=12):
    return neighbour.INPUTS[:count], np.arange(count) % 2

def broken():
    return 1 / 0

def leaving():
    raise SystemExit(3)

def number():
    return 7
"""  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    """A folder with the user's code and data."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "neighbour.py").write_text(
        "import numpy as np\nINPUTS = np.random.default_rng(0).normal(size=(12, 3))\n"
    )
    np.savez(tmp_path / "rows.npz", inputs=INPUTS, targets=TARGETS)
    yield tmp_path
    for name in ("neighbour", "inspected_nets", "inspected_mine"):
        sys.modules.pop(name, None)


def toml(folder, model='factory = "nets.py:Linear"', data='npz = "rows.npz"', top="", sgd=""):
    path = folder / "run.toml"
    path.write_text(f"{top}\n[model]\n{model}\n[data]\n{data}\n[sgd]\n{sgd}\n")
    return str(path)


def same(landscape, weight, weight_decay=0.0):
    """Whether a landscape is softmax regression of the rows, at these weights."""
    scores = INPUTS @ np.asarray(weight, float).reshape(2, 3).T
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(12), TARGETS]
    assert landscape.initial == pytest.approx(np.ravel(weight))
    decay = 0.5 * weight_decay * float(np.sum(np.square(weight)))
    found = landscape.example_losses(landscape.initial)
    assert found == pytest.approx(losses + decay, rel=1e-12)


# What is built


def test_a_toml_file_describes_a_network(folder):
    subject = load_subject(
        toml(
            folder,
            model='factory = "nets.py:Linear"\narguments = {scale = 0.5}',
            top="weight_decay = 0.1",
            sgd="learning_rate = 1\nbatch_size = 4",
        )
    )
    assert subject.name == "run"
    assert subject.settings == {"learning_rate": 1, "batch_size": 4}
    # Dropout, on in the factory's module, is off: it is inspected in evaluation mode.
    same(subject.landscape, 0.5 * np.ones(6), 0.1)


def test_data_come_from_a_function(folder):
    subject = load_subject(toml(folder, data='factory = "nets.py:rows"\narguments = {count = 7}'))
    assert subject.landscape.examples == 7


def test_data_are_cut(folder):
    subject = load_subject(toml(folder, data='npz = "rows.npz"\nmax_examples = 5'))
    assert subject.landscape.examples == 5


def test_named_data_and_networks_of_the_package(folder):
    path = toml(
        folder,
        model='factory = "escapade.landscape:MLP"\narguments = {widths = [30, 2, 2]}',
        data='name = "breast_cancer"\narguments = {preprocessing = "paper"}',
        top='loss = "square"\nonly = "layers[1].*"',
    )
    landscape = load_subject(path).landscape
    assert landscape.parameter_names == ["layers[1].weight (2, 2)"]
    data = esc.data.breast_cancer(preprocessing="paper")
    network = esc.landscapes.MLP((30, 2, 2))
    wanted = esc.landscapes.network_landscape(network, data, 0.0, "square")
    whole = wanted.example_losses(wanted.initial)
    assert landscape.example_losses(landscape.initial) == pytest.approx(whole)


def test_a_python_file_returns_a_landscape(folder):
    (folder / "mine.py").write_text(
        "import escapade as esc\nimport equinox as eqx\nimport nets\n"
        "def landscape():\n"
        "    model = eqx.nn.inference_mode(nets.Linear(2.0))\n"
        "    return esc.landscapes.network_landscape(model, nets.rows(), 0.0)\n"
    )
    before = list(sys.path)
    subject = load_subject(str(folder / "mine.py"))
    assert sys.path == before
    assert subject.name == "mine"
    same(subject.landscape, 2 * np.ones(6))
    sys.modules.pop("nets")


def test_a_study_is_trained_to_its_minimum(tmp_path):
    (tmp_path / "study.toml").write_text(
        '[landscape]\ndata = "breast_cancer"\npreprocessing = "paper"\nwidths = []\n'
        "weight_decay = 0.1\n[training]\nsteps = 50\n"
        "[[grid]]\nstiffness = [0.1]\nbarrier = [2.0]\n"
    )
    subject = load_subject(str(tmp_path / "study.toml"))
    (point,) = subject.landscape.minima
    assert np.linalg.norm(subject.landscape.gradient(point)) < 1e-10


# Checkpoints


WEIGHT = np.arange(6.0).reshape(2, 3) / 8


def test_equinox_leaves(folder):
    like = load_subject(toml(folder)).landscape.parameters
    eqx.tree_serialise_leaves(folder / "net.eqx", eqx.tree_at(lambda n: n.weight, like, WEIGHT))
    model = 'factory = "nets.py:Linear"\ncheckpoint = "net.eqx"'
    same(load_subject(toml(folder, model)).landscape, WEIGHT)


@pytest.mark.parametrize(
    ("factory", "name"),
    [("Linear", "weight"), ("apart", "layer/w"), ("apart", "layer.w"), ("apart", "['layer']['w']")],
)
def test_arrays_by_name(folder, factory, name):
    np.savez(folder / "net.npz", **{name: WEIGHT})
    model = f'factory = "nets.py:{factory}"\ncheckpoint = "net.npz"'
    same(load_subject(toml(folder, model)).landscape, WEIGHT)


def test_weights_of_a_pytorch_module(folder):
    torch = pytest.importorskip("torch")
    (folder / "nets.py").write_text(
        "import torch\n"
        "def net():\n"
        "    return torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(3, 2, bias=False))\n"
        "def loader():\n"
        "    from torch.utils.data import DataLoader, TensorDataset\n"
        "    import neighbour\n"
        "    inputs = torch.tensor(neighbour.INPUTS)\n"
        "    return DataLoader(TensorDataset(inputs, torch.arange(12) % 2), batch_size=5)\n"
        "def endless():\n"
        "    class Stream(torch.utils.data.IterableDataset):\n"
        "        def __iter__(self):\n"
        "            yield from ((row[0], row[1]) for row in loader().dataset)\n"
        "    return torch.utils.data.DataLoader(Stream(), batch_size=4)\n"
    )
    torch.save({"model": {"1.weight": torch.tensor(WEIGHT)}}, folder / "net.pt")
    np.savez(folder / "net.npz", **{"1.weight": WEIGHT})
    for file in ("net.pt", "net.npz"):
        model = f'factory = "nets.py:net"\ncheckpoint = "{file}"'
        subject = load_subject(toml(folder, model, 'factory = "nets.py:loader"'))
        same(subject.landscape, WEIGHT)
    streamed = 'factory = "nets.py:endless"'
    with pytest.raises(InvalidArgument, match=r"without a length.*max_examples"):
        load_subject(toml(folder, model, streamed))
    subject = load_subject(toml(folder, model, f"{streamed}\nmax_examples = 12"))
    same(subject.landscape, WEIGHT)
    torch.save({"2.weight": torch.zeros(2, 3)}, folder / "net.pt")
    with pytest.raises(InvalidArgument, match=r"does not fit Sequential; missing: 1\.weight"):
        load_subject(toml(folder, model.replace("npz", "pt"), 'npz = "rows.npz"'))


LINEN = """
import flax.linen as nn, jax, numpy as np
class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.BatchNorm(use_running_average=not train, use_bias=False, use_scale=False)(x)
        return nn.Dense(2, use_bias=False)(nn.Dropout(0.5, deterministic=not train)(x))
def both():
    return Net(), Net().init(jax.random.key(0), np.ones((1, 3)), train=False)
"""


@pytest.mark.parametrize("factory", ["Net", "both"])
@pytest.mark.parametrize("kind", ["variables", "state", "names"])
def test_variables_of_flax_linen(folder, factory, kind):
    pytest.importorskip("flax")
    from flax import serialization

    (folder / "nets.py").write_text(LINEN)
    # The statistics undo the standard normalisation, up to BatchNorm's epsilon.
    statistics = {"BatchNorm_0": {"mean": np.zeros(3), "var": np.full(3, 1 - 1e-5)}}
    variables = {"params": {"Dense_0": {"kernel": WEIGHT.T}}, "batch_stats": statistics}
    file = "net.npz" if kind == "names" else "net.msgpack"
    if kind == "names":
        leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
        names = {"/".join(key.key for key in path): leaf for path, leaf in leaves}
        np.savez(folder / file, **names)
    else:
        content = {**variables, "step": 3, "opt_state": {}} if kind == "state" else variables
        (folder / file).write_bytes(serialization.to_bytes(content))
    model = f'factory = "nets.py:{factory}"\ncheckpoint = "{file}"'
    landscape = load_subject(toml(folder, model)).landscape
    losses = landscape.example_losses(landscape.initial)
    scores = INPUTS @ WEIGHT.T
    wanted = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(12), TARGETS]
    assert losses == pytest.approx(wanted, rel=1e-6)


def test_variables_of_flax_nnx(folder):
    pytest.importorskip("flax")
    (folder / "nets.py").write_text(
        "from flax import nnx\n"
        "class Net(nnx.Module):\n"
        "    def __init__(self):\n"
        "        self.dense = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))\n"
        "        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))\n"
        "    def __call__(self, x):\n"
        "        return self.dense(self.dropout(x))\n"
    )
    np.savez(folder / "net.npz", **{"dense/kernel": WEIGHT.T})
    model = 'factory = "nets.py:Net"\ncheckpoint = "net.npz"'
    landscape = load_subject(toml(folder, model)).landscape
    assert landscape.initial == pytest.approx(WEIGHT.T.ravel())


# How mistakes are told


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"model": ""}, r"\[model\] needs factory"),
        (
            {"model": 'factory = "nets.py:Net"'},
            r"nets.py has no function Net; it has Linear, apart",
        ),
        ({"model": 'factory = "none.py:Net"'}, "no file .*none.py"),
        ({"model": 'factory = "nets.py"'}, 'write "package.module:function"'),
        ({"model": 'factory = "no_such_package.nets:Net"'}, "needs no_such_package"),
        ({"model": 'factory = "nets.py:broken"'}, r"nets.py, line \d+: ZeroDivisionError"),
        ({"model": 'factory = "nets.py:leaving"'}, "SystemExit: 3"),
        ({"model": 'factory = "nets.py:number"'}, "network is a int; give an Equinox"),
        (
            {"model": 'factory = "nets.py:Linear"\narguments = {size = 3}'},
            "unexpected keyword argument 'size'",
        ),
        ({"model": 'factory = "nets.py:Linear"\ncheckpoint = "none.pt"'}, "none.pt does not exist"),
        ({"model": 'factory = "nets.py:Linear"\ncheckpoint = "nets.py"'}, "of no known kind"),
        (
            {"model": 'factory = "nets.py:Linear"\ncheckpoint = "rows.npz"'},
            "does not fit; missing: weight; unexpected: inputs, targets",
        ),
        ({"model": 'factory = "nets.py:Linear"\nloss = "square"'}, "loss stands at the top"),
        ({"data": ""}, r"\[data\] gives no data"),
        ({"data": 'name = "digits"\nnpz = "rows.npz"'}, "gives name and npz; give one of"),
        ({"data": 'npz = "none.npz"'}, "none.npz cannot be read"),
        ({"data": 'npz = "other.npz"'}, "other.npz holds x; save it with"),
        ({"data": 'factory = "nets.py:number"'}, "data is a int; give a Dataset or a pair"),
        ({"data": 'npz = "rows.npz"\nmax_examples = "all"'}, "'all'; give a whole number"),
        ({"top": "weight_decay = true"}, "weight_decay is True; give a number"),
        ({"top": 'loss = "hinge"'}, "loss is 'hinge'; choose one of"),
        ({"top": 'only = "head.*"'}, "only names 'head"),
        ({"top": "wieght_decay = 1"}, "unknown entry 'wieght_decay'"),
        ({"sgd": "momentum = 0.9"}, "unknown entry 'momentum'"),
        ({"top": "="}, "cannot be read as TOML"),
    ],
)
def test_mistakes_in_a_toml_file_are_told(folder, parts, told):
    np.savez(folder / "other.npz", x=INPUTS)
    with pytest.raises(InvalidArgument, match=told):
        load_subject(toml(folder, **parts))


def test_a_checkpoint_of_another_shape_is_refused(folder):
    np.savez(folder / "net.npz", weight=WEIGHT.T)
    with pytest.raises(InvalidArgument, match="of another shape: weight"):
        load_subject(toml(folder, 'factory = "nets.py:Linear"\ncheckpoint = "net.npz"'))


def test_a_damaged_checkpoint_is_refused(folder):
    for file in ("net.eqx", "net.npz"):
        (folder / file).write_bytes(b"nothing of the kind")
        with pytest.raises(InvalidArgument, match=file):
            load_subject(toml(folder, f'factory = "nets.py:Linear"\ncheckpoint = "{file}"'))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "defines no function landscape"),
        ("def landscape():\n    return 3", r"landscape\(\) of .* returned a int"),
        ("def landscape():\n    return {}['x']", "line 2: KeyError: 'x'"),
        ("import no_such_package", "needs no_such_package.*pip install"),
        ("def landscape(:", "SyntaxError"),
    ],
)
def test_mistakes_in_a_python_file_are_told(tmp_path, text, told):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InvalidArgument, match=told):
        load_subject(str(tmp_path / "mine.py"))


def test_errors_of_the_package_pass_as_they_are(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import escapade as esc\ndef landscape():\n    esc.data.load('digit')\n"
    )
    with pytest.raises(DataError, match="did you mean 'digits'"):
        load_subject(str(tmp_path / "mine.py"))


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(StudyError, match="did you mean digits"):
        load_subject("digit")
    with pytest.raises(EscapadeError, match=r"none.toml does not exist"):
        load_subject(str(tmp_path / "none.toml"))
