"""Watching PyTorch training: hooks, and that nothing of the training changes."""

import importlib
import math
from importlib.util import find_spec

import numpy as np
import pytest

import escapade as esc
from escapade.training import Monitor

torch = pytest.importorskip("torch")

INPUTS = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (96,), generator=torch.Generator().manual_seed(1))


def network(normalised=False, seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Flatten()]
    if normalised:
        layers.insert(1, torch.nn.BatchNorm2d(3))
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.2), torch.nn.Linear(108, 3))


def watch(model, **options):
    was_training = model.training
    landscape = esc.landscapes.network_landscape(model.eval(), (INPUTS, LABELS), weight_decay=0.0)
    model.train(was_training)
    options = {"every": 5, "examples": 48, **options}
    return Monitor(landscape, 0.1, 16, sampling="without_replacement", **options)


def train(model, optimizer, steps, seed=2):
    torch.manual_seed(seed)
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(steps):
        batch = torch.randperm(96)[:16]
        optimizer.zero_grad()
        loss(model(INPUTS[batch]), LABELS[batch]).backward()
        optimizer.step()


def test_training_is_the_same_with_and_without():
    alone, watched = network(), network()
    optimizer = torch.optim.SGD(alone.parameters(), 0.1)
    train(alone, optimizer, 12)
    state = torch.random.get_rng_state()
    optimizer = torch.optim.SGD(watched.parameters(), 0.1)
    monitor = watch(watched)
    handle = monitor.torch_hook(optimizer, watched)
    train(watched, optimizer, 12)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert watched.training
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)
    assert [record.step for record in monitor.records] == [1, 6, 11]
    assert all(record.error == record.note == "" for record in monitor.records)
    handle.remove()
    train(watched, optimizer, 6)
    assert len(monitor.records) == 3


def test_a_record_is_that_of_the_parameters_now():
    model = network().eval()
    monitor = watch(model, examples=96, every=1, precision="float64")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    monitor.step(model)
    record = monitor.records[0]
    loss = torch.nn.functional.cross_entropy(model(INPUTS), LABELS)
    norm = torch.cat([g.ravel() for g in torch.autograd.grad(loss, model.parameters())]).norm()
    assert record.loss == pytest.approx(loss.item(), rel=1e-5)
    assert record.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    inspected = esc.landscapes.network_landscape(model, (INPUTS, LABELS), weight_decay=0.0)
    expansion = inspected.expand(inspected.initial)
    sharpest = max(np.linalg.eigvalsh(_dense(expansion)))
    assert record.sharpness == pytest.approx(sharpest, rel=0.02)


def _dense(expansion):
    return np.stack([expansion.hessian_product(row) for row in np.eye(expansion.dim)])


def test_wrapped_modules_and_flat_tensors_are_read():
    model = network().eval()
    monitor = watch(model, every=1)
    holder = torch.nn.Module()
    holder.model = model
    flat = torch.cat([parameter.detach().ravel() for parameter in model.parameters()])
    for form in (model, holder, flat):
        monitor.step(form)
    losses = [record.loss for record in monitor.records]
    assert losses == pytest.approx([losses[0]] * 3)
    with pytest.warns(UserWarning, match="has no parameters"):
        monitor.step(torch.nn.Linear(2, 2))


def test_statistics_of_batch_normalisation_follow():
    model = network(normalised=True)
    monitor = watch(model, examples=96, every=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    monitor.torch_hook(optimizer, model)
    train(model, optimizer, 8)
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model.eval()
        loss = torch.nn.functional.cross_entropy(model(INPUTS), LABELS)
    assert monitor.records[-1].loss == pytest.approx(loss.item(), rel=1e-4)
    assert all(torch.equal(kept[name], buffer) for name, buffer in model.named_buffers())


def test_the_optimiser_is_found_out():
    model = network()
    monitor = watch(model, every=1)
    parameters = list(model.parameters())
    for optimizer, word in [
        (torch.optim.SGD(parameters, 0.2), ""),
        (torch.optim.SGD(parameters, 0.2, momentum=0.9), "momentum 0.9"),
        (torch.optim.SGD(parameters, 0.2, momentum=0.9, nesterov=True), "nesterov"),
        (torch.optim.SGD(parameters, 0.2, weight_decay=0.01), "weight decay 0.01"),
        (
            torch.optim.SGD(
                [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:]}], 0.2
            ),
            "several learning rates",
        ),
        (torch.optim.Adam(parameters, 1e-3), "Adam"),
    ]:
        handle = monitor.torch_hook(optimizer, model)
        train(model, optimizer, 1)
        handle.remove()
        record = monitor.records[-1]
        assert record.learning_rate == optimizer.param_groups[0]["lr"]
        assert word in record.note
        assert bool(record.note) == bool(word)
        assert math.isnan(record.exit_steps) == bool(word)


def test_a_scheduler_is_followed():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    monitor = watch(model, every=2)
    monitor.torch_hook(optimizer, model)
    for _ in range(3):
        train(model, optimizer, 1)
        scheduler.step()
    assert [record.learning_rate for record in monitor.records] == [0.2, 0.05]


class Trainer:
    """What a callback sees of Lightning's; `test_lightning_itself` keeps it honest."""

    def __init__(self, optimizer):
        self.optimizers, self.global_step = [optimizer], 0


LIGHTNING = next(
    (name for name in ("lightning.pytorch", "pytorch_lightning") if find_spec(name.split(".")[0])),
    None,
)


@pytest.mark.skipif(LIGHTNING is None, reason="needs Lightning")
@pytest.mark.parametrize("watching", ["callback", "hook"])
def test_lightning_itself(tmp_path, watching):
    lightning = importlib.import_module(LIGHTNING)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = network(normalised=True)

        def training_step(self, batch, _):
            inputs, labels = batch
            return torch.nn.functional.cross_entropy(self.model(inputs), labels)

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)  # halved each epoch
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    module = Module()
    monitor = watch(module.model, every=2, examples=96, folder=tmp_path)
    callbacks = [monitor.lightning()] if watching == "callback" else []
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(INPUTS, LABELS), batch_size=16, shuffle=True
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        accumulate_grad_batches=2,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    if watching == "hook":
        made = module.configure_optimizers

        def hooked():
            optimizers = made()
            monitor.torch_hook(optimizers["optimizer"], module)
            return optimizers

        module.configure_optimizers = hooked
    trainer.fit(module, loader)
    assert trainer.global_step == 6
    # Six batches of an epoch are three steps; a stand-in counts them in the same way.
    assert [record.step for record in monitor.records] == [1, 3, 5]
    assert [record.learning_rate for record in monitor.records] == [0.1, 0.1, 0.05]
    assert all(record.error == "" for record in monitor.records)
    assert (tmp_path / "records.json").exists() == (watching == "callback")
    monitor.step(module, step=7)
    module.model.eval()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module.model(INPUTS), LABELS)
    assert monitor.records[-1].loss == pytest.approx(loss.item(), rel=1e-4)


def test_the_lightning_callback_skips_batches_that_accumulate(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = watch(model, every=2, folder=tmp_path)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    callback, trainer = monitor.lightning(), Trainer(optimizer)
    for batch in range(8):
        if batch % 2:
            callback.on_before_optimizer_step(trainer, model, optimizer)
            train(model, optimizer, 1)
            scheduler.step()  # Lightning does so before it ends the batch
        trainer.global_step = (batch + 1) // 2
        callback.on_train_batch_end(trainer, model, None, None, batch)
    callback.on_train_end(trainer, model)
    if LIGHTNING is not None:
        assert isinstance(callback, importlib.import_module(LIGHTNING).Callback)
    assert [record.step for record in monitor.records] == [1, 3]
    assert [record.learning_rate for record in monitor.records] == [0.1, 0.025]
    assert (tmp_path / "records.json").exists()


def test_a_trainer_without_optimiser_does_not_end_the_training():
    monitor = watch(network())
    trainer = Trainer(None)
    trainer.optimizers, trainer.global_step = [], 1
    with pytest.warns(UserWarning, match="the monitor failed"):
        monitor.lightning().on_train_batch_end(trainer, None, None, None, 0)


@pytest.mark.slow
def test_watching_takes_less_than_five_per_cent_of_the_time():
    inputs = torch.rand(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 10, (2000,), generator=torch.Generator().manual_seed(1))
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(8, 16, 3), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(400, 10),
    ).eval()  # fmt: skip
    landscape = esc.landscapes.network_landscape(model, (inputs, labels), weight_decay=0.0)
    monitor = Monitor(landscape, 0.05, 64, sampling="shuffled_epochs")
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    monitor.torch_hook(optimizer, model)
    loss = torch.nn.CrossEntropyLoss()
    for step in range(6000):
        batch = slice(64 * (step % 31), 64 * (step % 31) + 64)
        optimizer.zero_grad()
        loss(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    assert len(monitor.records) >= 2
    assert all(not record.error for record in monitor.records)
    assert monitor.overhead < 0.05
