"""Studies made up directly from random exit times, with the numbers of real ones."""

from dataclasses import replace

import numpy as np
import pytest

from escapade.exits import ExitSample
from escapade.minimum import Alignment
from escapade.study.cell import Cell
from escapade.study.results import CellResult, InstantonSummary, MinimumSummary, StudyResult
from escapade.theory import Diagnosis, Groups, Prediction

DIM = 96
SHARPNESS, C = 2.188, 0.96
EIGENVALUES = np.geomspace(SHARPNESS, 4.3e-4, DIM)


def sample_of(times, max_steps=10**13, diverged=0):
    """A sample with these exit times, cut at max_steps, some replicas added that diverged."""
    times = np.maximum(np.asarray(times), 1)
    censored = times > max_steps
    times = np.append(np.minimum(times, max_steps), np.full(diverged, 7)).astype(np.int64)
    return ExitSample(
        times=times,
        censored=np.append(censored, np.zeros(diverged, bool)),
        diverged=np.append(np.zeros(censored.size, bool), np.ones(diverged, bool)),
        exit_points=np.zeros((times.size, 2)),
        start=np.zeros(2),
        max_steps=int(max_steps),
        seconds=1.25,
        precision="float32",
        engine="jax cpu",
        key="2024",
    )


def gamma_times(rng, mean, variation, replicas):
    """Exit times of a gamma law with this mean and coefficient of variation."""
    return np.ceil(rng.gamma(variation**-2, mean * variation**2, replicas))


def prediction_of(mean, groups, error=0.03, theory="escapade", warns=False):
    b = groups.barrier
    return Prediction(
        theory=theory,
        log_mean=float(np.log(mean)),
        relative_error=error,
        exponent=b / 640,
        groups=groups,
        assumptions=(
            f"{'holds' if b >= 2 else 'FAILS'}: exit over a barrier: b = {b:.3g} (at least 2)",
            f"{'FAILS' if warns else 'holds'}: Gaussian noise: skewness and tails change log E[nu] "
            f"by about {'-0.34' if warns else '-0.05'} (at most 0.3)",
        ),
        source="Freidlin and Wentzell, Random Perturbations of Dynamical Systems, chapter 4",
    )


def groups_of(barrier, shell_ratio, stiffness=0.2188, signal=1.2):
    return Groups(
        barrier=barrier,
        signal_to_noise=signal,
        stiffness=stiffness,
        effective_dimension=20.3,
        shell_ratio=shell_ratio,
        relaxation_steps=(23_000.0, 4.6),
    )


def shares_of(region):
    """Exits of a slab along the sharpest direction, those of a ball along many."""
    if region == "slab":
        shares = np.r_[0.82, 0.18 * np.full(DIM - 1, 1 / (DIM - 1))]
    else:
        shares = np.geomspace(1, 1e-3, DIM)
    return shares / shares.sum()


REASONS = {
    "activated": "the barrier is several noise scales high and the region lies outside the shell",
    "diffusive": "the region lies inside the typical shell, so leaving is no rare event",
    "drift": "the mean motion carries the parameters out, faster than the linear theory allows",
    "unstable": "eta lambda_max exceeds 2",
}


def cell_result(
    dynamics="minibatch",
    batch_size=64,
    region="slab",
    size=0.0871,
    *,
    times,
    predicted=None,
    barrier=4.5,
    shell_ratio=None,
    mechanism="activated",
    learning_rate=0.1,
    sharpness=1.0,
    max_steps=10**13,
    diverged=0,
    silence="",
    warns=False,
):
    sample = sample_of(times, max_steps, diverged)
    groups = groups_of(
        barrier,
        0.5 / barrier if shell_ratio is None else shell_ratio,
        learning_rate * SHARPNESS * sharpness,
        np.sqrt(batch_size * SHARPNESS / C) * size,
    )
    plain = prediction_of(np.exp(min(barrier, 700)) / learning_rate, groups, np.inf, "plain")
    return CellResult(
        cell=Cell(
            dynamics,
            learning_rate,
            batch_size,
            sharpness,
            region,
            size,
            replicas=sample.replicas,
            max_steps=sample.max_steps,
        ),
        sample=sample,
        prediction=None if predicted is None else prediction_of(predicted, groups, warns=warns),
        exponential_law=None if predicted is None else plain,
        diagnosis=Diagnosis(mechanism, REASONS[mechanism], groups),
        exit_shares=shares_of(region) if sample.exits else np.full(DIM, np.nan),
        silence=silence,
    )


def instanton_of(cells):
    """Out along the sharpest direction, bent into the next one."""
    times = np.linspace(-60.0, 0.0, 61)
    along = np.zeros((61, DIM))
    along[:, 0] = 0.4 * np.exp(0.1 * times)
    along[:, 1] = 0.5 * along[:, 0] ** 2
    return InstantonSummary(
        cell=cells[0].cell,
        value=0.169,
        error=2e-7,
        quadratic_value=0.15,
        times=times,
        actions=0.169 * np.exp(0.2 * times),
        along=along,
        method="forward and backward sweeps",
    )


def study_of(cells, **changes):
    rng = np.random.default_rng(1)
    minimum = MinimumSummary(
        theta=rng.normal(size=DIM),
        loss=0.61697,
        gradient_norm=2.1e-17,
        flat_directions=0,
        eigenvalues=EIGENVALUES,
        noise_along=C * EIGENVALUES * np.exp(0.25 * rng.normal(size=DIM) * np.linspace(0, 1, DIM)),
        noise_eigenvalues=C * EIGENVALUES,
        alignment=Alignment(c=C, relative_residual=0.043, cosine=0.9991, commutator=0.008),
        effective_dimension=20.3,
        examples=10430,
        accuracy=0.612,
        description="multilayer perceptron 10-8-2, tanh, cross-entropy, weight decay 0.001, AVILA",
        seconds=12.4,
    )
    values = {
        "name": "avila",
        "title": "How many steps does SGD need to leave a minimum of a real network?",
        "description": (
            "Minibatch SGD, and SGD with Gaussian noise of the same covariance, start at a "
            "polished minimum of a small network on the AVILA data and run until they leave a "
            "slab across the sharpest direction, or a ball."
        ),
        "seed": 2024,
        "quick": False,
        "minimum": minimum,
        "instanton": instanton_of(cells) if cells else None,
        "cells": tuple(cells),
        "planned": len(cells),
        "command": "escapade study avila --seed 2024",
        "provenance": {
            "escapade": "0.1.0",
            "jax": "0.10.1",
            "numpy": "2.4.6",
            "processor": "x86_64, 2 cores",
            "date": "2025-11-23",
            "seconds": 412.0,
        },
        "specification": '[study]\nname = "avila"\nseed = 2024\n\n[grid]\nbatch_size = [16, 64]\n',
    }
    return StudyResult(**{**values, **changes})


@pytest.fixture(scope="session")
def good():
    """Sixteen cells with the numbers of real ones.

    Most agree, one deviates, the first is called activated because of its exits, balls diffuse.
    """
    rng = np.random.default_rng(7)

    def exponential(mean, replicas=768):
        return rng.geometric(1 / mean, replicas)

    def slab(dynamics, batch, size, mean, predicted, barrier, replicas=768, **more):
        times = exponential(mean, replicas)
        return cell_result(
            dynamics, batch, size=size, times=times, predicted=predicted, barrier=barrier, **more
        )

    def ball(dynamics, batch, radius, mean, predicted, barrier, shell, variation):
        return cell_result(
            dynamics,
            batch,
            "ball",
            radius,
            learning_rate=0.2,
            times=gamma_times(rng, mean, variation, 512),
            predicted=predicted,
            barrier=barrier,
            shell_ratio=shell,
            mechanism="drift" if shell < 0.25 else "diffusive",
        )

    return study_of(
        [
            slab("minibatch", 16, 0.10, 22.8, 23.7, 1.5),
            slab("minibatch", 16, 0.15, 127, 166, 3.3, warns=True),
            slab("minibatch", 16, 0.20, 2795, 2281, 5.9, 128, max_steps=6000),
            slab("minibatch", 64, 0.0711, 122, 117.9, 3.0, 3000),
            slab("minibatch", 64, 0.0871, 525, 535.3, 4.5, 3000),
            slab("minibatch", 64, 0.1006, 2581, 2445, 6.0),
            slab("minibatch", 256, 0.0436, 519.7, 535.3, 4.5),
            slab("minibatch", 256, 0.0503, 2470, 2445, 6.0, 1500),
            slab("minibatch_without_replacement", 64, 0.0871, 541, 538, 4.5),
            slab("gaussian", 64, 0.0711, 118.5, 117.9, 3.0, 3000),
            slab("gaussian", 64, 0.0871, 540, 535.3, 4.5, 3000),
            slab("gaussian", 64, 0.1006, 2410, 2445, 6.0, 1500),
            ball("minibatch", 8, 0.6, 57, 85, 3.2, 2.1, 0.10),
            ball("minibatch", 16, 0.7, 237, 622, 8.7, 0.95, 0.19),
            ball("minibatch", 32, 0.8, 740, 1.9e4, 22.0, 0.22, 0.33),
            ball("gaussian", 16, 0.7, 610, 622, 8.7, 0.95, 0.27),
        ]
    )


@pytest.fixture(scope="session")
def diffusive():
    """Nothing but balls inside the typical shell."""
    rng = np.random.default_rng(8)
    return study_of(
        [
            cell_result(
                batch_size=batch,
                region="ball",
                size=0.6,
                learning_rate=0.2,
                times=gamma_times(rng, mean, 0.1, 256),
                predicted=predicted,
                barrier=barrier,
                shell_ratio=shell,
                mechanism="diffusive",
            )
            for batch, mean, predicted, barrier, shell in [
                (8, 57, 85, 3.2, 2.1),
                (16, 120, 260, 6.4, 1.05),
                (24, 190, 1e9, 9.6, 0.7),
            ]
        ],
        name="balls",
    )


@pytest.fixture(scope="session")
def troubled():
    """Everything that can go wrong in one study."""
    rng = np.random.default_rng(9)
    long = rng.exponential(1e12, 400)
    cells = [
        # No exit within the cap, and the prediction says so too.
        cell_result(size=0.2, times=np.full(64, 10**6), max_steps=5000, predicted=4e8, barrier=18),
        cell_result(size=0.1, times=long, predicted=1.02e12, barrier=24.0),
        cell_result(size=0.3, times=rng.exponential(800, 300), silence="the noise does not reach"),
        cell_result(size=0.4, times=rng.exponential(700, 300), predicted=720, diverged=40),
        cell_result(
            learning_rate=1.0, size=0.5, times=[], diverged=64, mechanism="unstable", barrier=np.nan
        ),
        cell_result("gaussian", region="sublevel", size=0.02, times=[31], predicted=44),
        # A prediction beyond the largest float.
        cell_result(size=0.6, times=np.full(8, 99), max_steps=50, predicted=1.0, barrier=1e3),
        cell_result("a&b<c>", region='"ball"', size=1, times=rng.exponential(90, 50), predicted=80),
    ]
    beyond = replace(
        cells[6],
        prediction=Prediction("uniform", 1e3, 0.1, 1.0, cells[6].diagnosis.groups, (), "here"),
    )
    return study_of(
        [*cells[:6], beyond, cells[7]],
        planned=20,
        quick=True,
        name="trouble",
        title="Is 1 < 2 & does <script>alert('x')</script> \"stay\" text?",
        description="A <b>bold</b> claim & more.",
        command="escapade study trouble.toml --note '</pre><script>'",
        provenance={"machine": '<unknown> & "odd"', "libraries": {"jax": "0.10"}},
        specification="note = '</details><script>alert(1)</script>'",
    )


@pytest.fixture(scope="session")
def empty():
    """A study none of whose cells is finished."""
    return study_of([], planned=12)
