"""One exit over forty decades, answered in five ways: draws docs/images/truth.svg.

    python benchmarks/depth.py        about two minutes

A Gaussian chain leaves the left half of a double well over its saddle; the batch size grows. All
verbs have their default settings; direct simulation stops at 1e6 steps, and is tried up to 1e5.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

import escapade as esc
from escapade.report import formats
from escapade.report.figures import style

BATCH_SIZES = (0.4, 0.8, 1.2, 1.6, 4.0, 6.4, 8.8, 11.2, 13.6, 16.0, 18.4)
MOST_SIMULATED = 1e5
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "truth.svg"


def well(batch_size):
    """The left half of the double well."""
    return esc.Escape(
        landscape=esc.landscapes.DoubleWell(),
        dynamics=esc.GaussianSGD(0.1, batch_size, esc.noise.Isotropic()),
        region=esc.HalfSpace([1.0], 1.0),
        minimum=[-1.0],
    )


def answers(batch_size):
    """Logarithms of what each verb says: mean, interval, and whether it carries a caution."""
    escape = well(batch_size)
    exact = esc.solve(escape)
    found = {"exact": exact.log_mean, "predicted": esc.predict(escape).log_mean}
    if exact.mean < MOST_SIMULATED:
        sample = esc.simulate(escape, 512, 10**6, key=1)
        found["simulated"] = np.log([sample.mean, *sample.interval]), False
    rare = {"splitting": esc.split(escape, key=1, workers=2)}
    paths = esc.minimum_steepness(escape)
    rare["importance sampling"] = esc.importance_sample(escape, paths, key=1)
    for name, one in rare.items():
        found[name] = np.log([one.mean, *one.interval]), bool(one.cautions)
        ratio = np.exp(found[name][0] - exact.log_mean)
        print(f"B = {batch_size:g}, {exact.mean:.3g} steps: {name} / exact = {ratio.round(3)}")
    return found


def draw_points(top: Axes, low: Axes, barriers, rows):
    """Markers with intervals: on the decades above, relative to the exact mean below."""
    looks = {
        "simulated": (*style.marker("minibatch"), 3.5, -0.9),
        "splitting": ("s", style.VERMILLION, 7.5, 0.0),
        "importance sampling": ("^", style.GREEN, 5.5, 0.9),
    }
    for name, (marker, color, size, shift) in looks.items():
        known = [(b, row["exact"], *row[name]) for b, row in zip(barriers, rows, strict=True)
                 if name in row]  # fmt: skip
        top.plot(
            [b for b, *_ in known],
            [values[0] / np.log(10) for _, _, values, _ in known],
            ls="none",
            marker=marker,
            ms=size,
            color=color,
            label=name,
            markeredgecolor=style.PAPER,
            markeredgewidth=0.6,
            zorder=5 if name == "simulated" else 3,
        )
        for b, exact, values, caution in known:
            middle, lower, upper = np.exp(values - exact)
            low.errorbar(
                b + shift,
                middle,
                yerr=[[middle - lower], [upper - middle]],
                marker=marker,
                ms=5.5,
                color=color,
                markerfacecolor=style.PAPER if caution else color,
                elinewidth=1.2,
                markeredgewidth=1.2,
            )


def main():
    """Compute, draw, save."""
    rows = [answers(batch_size) for batch_size in BATCH_SIZES]
    barriers = 5.0 * np.array(BATCH_SIZES)  # V0 = 1/2 and eta = 0.1
    exact, predicted = (np.array([row[name] for row in rows]) for name in ("exact", "predicted"))
    with mpl.rc_context(style.SETTINGS):
        figure = style.new_figure(5.6)
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
        dashes = {"color": style.ORANGE, "lw": 1.6, "ls": (0, (4, 3)), "zorder": 1}
        top.plot(barriers, exact / np.log(10), color=style.INK, lw=1.2, label="exact (solve)")
        top.plot(barriers, predicted / np.log(10), label="predicted", **dashes)
        low.axhline(1, color=style.INK, lw=1.2)
        low.plot(barriers, np.exp(predicted - exact), **dashes)
        top.axhline(6, color=style.MUTED, lw=0.8, ls=":")
        remark = "10⁶ steps: where simulation stops"
        top.text(barriers[-1], 6.5, remark, ha="right", va="bottom", **style.REMARK)
        draw_points(top, low, barriers, rows)
        top.set(ylabel="mean exit time (steps)", ylim=(0, 44), yticks=[0, 10, 20, 30, 40])
        top.yaxis.set_major_formatter(
            FuncFormatter(lambda decade, _: formats.power_of_ten(int(decade)) if decade else "1")
        )
        low.set(
            yscale="log",
            ylim=(0.18, 5.5),
            yticks=[0.2, 0.5, 1, 2, 5],
            xlabel="barrier $b = (B / \\eta) V_0$",
            ylabel="ratio to exact",
        )
        low.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        low.minorticks_off()
        hollow = {"ls": "none", "marker": "s", "ms": 5.5, "markerfacecolor": style.PAPER}
        low.plot([], [], color=style.VERMILLION, label="with a caution", **hollow)
        low.legend(loc="lower left")
        top.legend(loc="upper left")
        figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
