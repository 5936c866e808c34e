"""Samples of exit times in JSON, and put together; exit points are not kept."""

from typing import Any

import numpy as np

from escapade.exits import ExitSample


def sample_to_json(sample: ExitSample) -> dict[str, Any]:
    """Exit steps and what became of each run."""
    return {
        "times": sample.times.tolist(),
        "censored": sample.censored.tolist(),
        "diverged": sample.diverged.tolist(),
        "max_steps": sample.max_steps,
        "seconds": sample.seconds,
        "precision": sample.precision,
        "engine": sample.engine,
        "key": sample.key,
    }


def sample_from_json(content: dict[str, Any]) -> ExitSample:
    """The sample that `sample_to_json` gave; its points have dimension zero."""
    flags = {name: np.array(content[name], bool) for name in ("censored", "diverged")}
    times = np.array(content["times"], np.int64)
    points = np.empty((times.size, 0))
    return ExitSample(
        **{**content, **flags, "times": times, "exit_points": points, "start": np.empty(0)}
    )


def pooled(samples: list[ExitSample]) -> ExitSample:
    """Independent samples of one exit time, put together."""
    parts = [sample_to_json(sample) for sample in samples]
    joined = {
        name: [one for part in parts for one in part[name]]
        for name in ("times", "censored", "diverged")
    }
    seconds = sum(sample.seconds for sample in samples)
    key = ", ".join(sample.key for sample in samples)
    return sample_from_json({**parts[0], **joined, "seconds": seconds, "key": key})
