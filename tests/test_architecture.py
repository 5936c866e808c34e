"""The house: what may import what, what is public, and what importing it must not do."""

import subprocess
import sys
from pathlib import Path

import pytest

import escapade

ROOT = Path(__file__).parents[1]


def floors(config):
    """Run the linter by itself: it scans in several processes, which captured output harms."""
    pytest.importorskip("importlinter.cli")
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", run, "--config", str(config), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def test_each_floor_imports_only_what_stands_below_it():
    done = floors(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout
    assert "KEPT" in done.stdout
    assert "0 broken" in done.stdout


def test_the_linter_would_notice(tmp_path):
    """The same contract upside down is broken, so it looks at the real imports."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    first = lines.index("layers = [") + 1
    last = lines.index("]", first)
    lines[first:last] = reversed(lines[first:last])
    (tmp_path / "pyproject.toml").write_text("\n".join(lines))
    done = floors(tmp_path / "pyproject.toml")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_public_names_exist_once_and_are_documented():
    assert len(set(escapade.__all__)) == len(escapade.__all__)
    for name in escapade.__all__:
        thing = getattr(escapade, name)
        assert (thing.__doc__ or "").strip(), name
        # A class without a docstring of its own shows that of its base, or its signature.
        if isinstance(thing, type):
            assert thing.__doc__ not in {base.__doc__ for base in thing.__mro__[1:]}, name


IMPORT = """
import sys
import escapade, escapade.cli, escapade.study
import jax
assert jax.config.jax_enable_x64 is False, "import switched x64 on"
assert jax.numpy.zeros(2, float).dtype == "float32"
heavy = {"torch", "flax", "optax", "dask", "distributed", "matplotlib", "sklearn", "pooch"}
heavy &= set(sys.modules)
assert not heavy, heavy
import escapade.report
assert "matplotlib" in sys.modules
import escapade.exits, escapade.theory
escapade.predict(
    escapade.Escape(
        escapade.landscapes.Quadratic([1.0]),
        escapade.GaussianSGD(0.1, 8, escapade.noise.Isotropic()),
        escapade.Ball(0.5),
    )
)
assert jax.config.jax_enable_x64 is False, "a verb left x64 on"
"""


def test_importing_switches_nothing_on_and_loads_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_no_module_changes_global_settings():
    """`jax.config.update` is for users; precision is a local context."""
    for path in (ROOT / "escapade").rglob("*.py"):
        assert "config.update(" not in path.read_text(), path
