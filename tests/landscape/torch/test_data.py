"""What counts as data, and what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: E402
from torch.utils.data import Dataset as TorchDataset  # noqa: E402

import escapade as esc  # noqa: E402
from escapade.errors import InvalidArgument  # noqa: E402
from escapade.landscape.torch import torch_network  # noqa: E402

ROWS = np.random.default_rng(0).standard_normal((10, 4))
LABELS = np.arange(10) % 3
PAIRS = TensorDataset(torch.tensor(ROWS), torch.tensor(LABELS))


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=torch.float64)).eval()


def losses(data, **keywords):
    landscape = torch_network(network(), "cross_entropy", data, **keywords)
    return landscape.expand(landscape.initial).example_losses


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.tensor(x), torch.tensor(y)) for x, y in zip(ROWS, LABELS, strict=True)])


class Augmented(TorchDataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.tensor(ROWS[i]) + 0.1 * torch.randn(4), int(LABELS[i])


@pytest.mark.parametrize(
    "data",
    [
        (ROWS, LABELS),
        (torch.tensor(ROWS), torch.tensor(LABELS, dtype=torch.int32)),
        esc.data.Dataset("rows", ROWS, LABELS, 3, "none", "drawn"),
        PAIRS,
        DataLoader(PAIRS, batch_size=4),
        [(ROWS[:7], LABELS[:7]), (ROWS[7:], LABELS[7:])],
        [{"input": ROWS, "labels": LABELS}],
    ],
    ids=["arrays", "tensors", "escapade", "torch", "loader", "batches", "mapping"],
)
def test_all_forms_of_data_give_the_same_losses(data):
    # Unequal last batches are weighted by their size: every example counts once.
    scores = ROWS @ network()[0].weight.detach().numpy().T + network()[0].bias.detach().numpy()
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(10), LABELS]
    np.testing.assert_allclose(losses(data), expected, rtol=1e-12)


def test_part_of_the_data():
    whole = losses((ROWS, LABELS))
    for data in (DataLoader(PAIRS, batch_size=4), DataLoader(Stream(), batch_size=4)):
        np.testing.assert_array_equal(losses(data, max_examples=6), whole[:6])


def test_inputs_that_are_tuples_or_dictionaries():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 3, dtype=torch.float64)

        def forward(self, first, second):
            return self.layer(first * second)

    torch.manual_seed(0)
    model = Two()
    together = {"second": ROWS + 1, "first": ROWS}
    values = []
    for data in (((ROWS, ROWS + 1), LABELS), [(ROWS, ROWS + 1, LABELS)], (together, LABELS)):
        landscape = torch_network(model, "cross_entropy", data)
        values.append(landscape.loss(landscape.initial))
    assert values[0] == values[1] == values[2]


def test_reading_a_loader_leaves_the_generator_alone():
    model, loader = network(), DataLoader(PAIRS, batch_size=4)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    torch_network(model, "cross_entropy", loader)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataLoader(PAIRS, batch_size=4, shuffle=True), "shuffle=False"),
        (DataLoader(PAIRS, batch_size=4, drop_last=True), "leaves out 2 of 10.*drop_last=False"),
        (DataLoader(Augmented(), batch_size=4), "random transforms"),
        (DataLoader(Stream(), batch_size=4), "without a length.*max_examples"),
        ((batch for batch in [(ROWS, LABELS)]), "without a length.*max_examples"),
        ((ROWS, LABELS[:9]), "one leading axis"),
        ((np.where(np.arange(10)[:, None] == 3, np.nan, ROWS), LABELS), "first is number 3"),
        ([{"input": ROWS, "answer": LABELS}], "keys input, answer"),
        ([ROWS], "must be .inputs, targets."),
        (ROWS, "is a ndarray"),
        ([], "no batch"),
        ((["a", "b"], LABELS[:2]), "holds str"),
    ],
)
def test_refused_data(data, words):
    with pytest.raises(InvalidArgument, match=words):
        losses(data)
