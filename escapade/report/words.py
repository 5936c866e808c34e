"""The answer of a study in words, generated from its numbers by the rules stated on the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from escapade.exits import log_mean_regression
from escapade.report import formats
from escapade.report.figures.regimes import BARRIER
from escapade.report.reading import FAILS, HOLDS, TOLERANCE, Reading, read_all
from escapade.study.results import StudyResult
from escapade.theory.groups import SHELL

CENSORED = 0.10
"""Share of censored replicas from which a mean leans on the exponential law."""

SIGNIFICANT = 0.05
"""p-value below which a sample counts as evidence against the exponential law."""

_NAMED = 3  # dynamics that a headline names; more are counted

_BAND = formats.percent(TOLERANCE)

VERDICTS = {"agrees": f"within {_BAND}", "deviates": "deviating", "open": "too uncertain to tell"}
"""The verdicts on a cell, in words."""

_MEANINGS = {
    "diffusive": "the noise alone spreads the parameters that far, so leaving is no rare event",
    "drift": "a mean motion carries the parameters out",
    "unstable": "at this learning rate the minimum does not hold the parameters at all",
}


@dataclass(frozen=True)
class Answer:
    """What the page says first.

    Attributes:
        headline: the answer in one sentence.
        lead: what it rests on.
        support: one line per dynamics with activated cells.
        failures: where theory fails, if anywhere.
        elsewhere: one line per other mechanism.
        cautions: what limits the answer.
    """

    headline: str
    lead: str
    support: tuple[str, ...]
    failures: tuple[str, ...]
    elsewhere: tuple[str, ...]
    cautions: tuple[str, ...]


def answer(study: StudyResult) -> Answer:
    """The answer, from activated cells with a measurement and a prediction; others are named."""
    readings = read_all(study)
    activated = [reading for reading in readings if reading.activated]
    judged = [reading for reading in activated if reading.verdict]
    deviating = [reading for reading in judged if reading.verdict == "deviates"]
    return Answer(
        headline=_headline(readings, activated, judged),
        lead=_lead(judged),
        support=tuple(_support(list(group)) for _, group in _by(judged, lambda r: r.dynamics)),
        failures=tuple(_failures(deviating, judged)),
        elsewhere=tuple(
            _elsewhere(name, list(group))
            for name, group in _by(readings, lambda reading: reading.mechanism)
            if name != "activated"
        ),
        cautions=tuple(_cautions(study, readings, activated, judged)),
    )


def _headline(
    readings: Sequence[Reading], activated: Sequence[Reading], judged: Sequence[Reading]
) -> str:
    if not readings:
        return "No cell is finished yet, so there is no answer."
    if not activated:
        return (
            "No finished cell is in the activated regime, so barrier theory is not tested here; "
            f"the mechanisms are: {_mechanisms(readings)}."
        )
    if not judged:
        return _headline_without_comparison(activated)
    agree, deviate, undecided = (
        sum(reading.verdict == verdict for reading in judged)
        for verdict in ("agrees", "deviates", "open")
    )
    cells = formats.count(len(judged), "cell")
    uncertain = f"{undecided} {'is' if undecided == 1 else 'are'} too uncertain to tell"
    if 2 * agree >= len(judged) and not deviate:
        confirmed = [reading for reading in judged if reading.verdict == "agrees"]
        names = list(dict.fromkeys(reading.dynamics for reading in confirmed))
        verb = "leave" if 1 < len(names) <= _NAMED else "leaves"
        claim = (
            f"In the activated regime, {_names(names)} {verb} the minimum after as many steps as "
            f"theory predicts, to within {_BAND}"
        )
        if undecided:
            return f"{claim}, in {agree} of {cells} compared; {uncertain}."
        return f"{claim}: in {'the one cell' if agree == 1 else f'all {cells}'} compared."
    if agree and not deviate:
        return (
            f"In the activated regime, {agree} of {cells} compared "
            f"{'confirms' if agree == 1 else 'confirm'} the predicted mean exit time to within "
            f"{_BAND}; {uncertain}."
        )
    if agree:
        warned = [
            reading for reading in judged if reading.verdict == "deviates" and reading.warnings
        ]
        if len(warned) == deviate:
            return _headline_with_warnings(judged, warned, undecided)
        names = list(dict.fromkeys(reading.dynamics for reading in judged))
        rest = [f"{deviate} {'deviates' if deviate == 1 else 'deviate'} by more"] if deviate else []
        rest += [uncertain] if undecided else []
        return (
            f"In the activated regime, theory predicts the mean exit time of "
            f"{_names(names)} to within {_BAND} in {agree} of {cells} compared; "
            f"{', '.join(rest)}."
        )
    if deviate:
        return (
            f"Theory fails here: in {deviate} of {cells} compared in the activated regime the mean "
            f"exit time is off by more than {_BAND}" + (f", {uncertain}." if undecided else ".")
        )
    ratios = formats.span((reading.log_ratio[1] for reading in judged), formats.ratio_from_log)
    return (
        f"Not decided: in the activated regime measured / predicted mean exit time is {ratios}, "
        f"but in {'the one cell' if undecided == 1 else f'all {cells}'} compared the measurement "
        f"is too uncertain to tell a deviation of {_BAND}."
    )


def _headline_with_warnings(
    judged: Sequence[Reading], warned: Sequence[Reading], undecided: int
) -> str:
    """Every deviation is one that the prediction's own assumptions announce."""
    confirmed = [reading for reading in judged if reading.verdict == "agrees"]
    names = list(dict.fromkeys(reading.dynamics for reading in confirmed))
    worst = max(abs(reading.log_ratio[1]) for reading in warned)
    uncertain = f" {undecided} more cells are too uncertain to tell." if undecided > 1 else ""
    uncertain = " One more cell is too uncertain to tell." if undecided == 1 else uncertain
    return (
        f"In the activated regime, theory predicts the mean exit time of {_names(names)} to within "
        f"{_BAND} wherever its assumptions hold and the measurement can tell "
        f"({formats.count(len(confirmed), 'cell')}); where it warns that they fail, it is off by "
        f"up to a factor of {np.exp(worst):.2g} ({formats.count(len(warned), 'cell')}).{uncertain}"
    )


def _headline_without_comparison(activated: Sequence[Reading]) -> str:
    if not any(reading.measured for reading in activated):
        return "Every replica of the activated cells diverged, so there is nothing to compare."
    left = [reading for reading in activated if reading.exits]
    if not left:
        return "No replica left in the activated cells, which contradicts no prediction."
    cells = formats.count(len(left), "activated cell")
    if any(reading.compared for reading in left):
        return (
            f"Exits were measured in {cells}, but these exits, which come at the predicted rate, "
            "are why they are called activated: no independent comparison is left."
        )
    return (
        f"Exits were measured in {cells}, but no theory predicts them, so there is nothing to "
        "compare."
    )


def _lead(judged: Sequence[Reading]) -> str:
    if not judged:
        return ""
    barriers = formats.span(map(_barrier, judged), formats.short)
    text = (
        f"Compared: {formats.count(len(judged), 'cell')} in which leaving is a rare event over a "
        f"barrier, b = {barriers}."
    )
    ratios = [reading.log_ratio[1] for reading in judged if reading.exits]
    if ratios:
        inside = sum(reading.covers for reading in judged)
        text += (
            f" Measured / predicted mean exit time: {formats.span(ratios, formats.ratio_from_log)};"
            f" the 95 % interval contains the prediction in {inside} of {len(judged)}."
        )
    text += _slope(judged)
    plain = [
        abs(np.log(reading.mean) - reading.log_plain)
        for reading in judged
        if reading.exits and not np.isnan(reading.log_plain)
    ]
    if plain:
        text += (
            " The plain exponential law, without its prefactor, is off by a factor of "
            f"{formats.span(plain, formats.ratio_from_log)} in the same cells."
        )
    return text


def _slope(judged: Sequence[Reading]) -> str:
    """Slope of the measured on the predicted logarithms, where the predictions spread enough."""
    left = [reading for reading in judged if reading.exits > 1]
    predicted = np.array([reading.log_predicted for reading in left])
    if len(left) < 3 or np.ptp(predicted) < 1:
        return ""
    line = log_mean_regression([reading.result.measured for reading in left], predicted)
    low, high = line.slope_interval
    return (
        " Regressed on the full prediction, exponent and prefactor, the logarithms have the slope "
        f"{line.slope:.3f} (95 %: {low:.3f} to {high:.3f}; a right theory has 1)."
    )


def _support(readings: Sequence[Reading]) -> str:
    tally = [
        f"{amount} {words}"
        for verdict, words in VERDICTS.items()
        if (amount := sum(reading.verdict == verdict for reading in readings))
    ]
    parts = [", ".join(tally), f"b = {formats.span(map(_barrier, readings), formats.short)}"]
    ratios = [reading.log_ratio[1] for reading in readings if reading.exits]
    if ratios:
        parts.append(f"measured / predicted {formats.span(ratios, formats.ratio_from_log)}")
    variations = [reading.variation for reading in readings if not np.isnan(reading.variation)]
    if variations:
        parts.append(
            f"coefficient of variation {formats.span(variations, formats.ratio)} (exponential: 1)"
        )
    bounds = sum(not reading.exits for reading in readings)
    if bounds:
        parts.append(f"no exit within the cap in {bounds}")
    return (
        f"{_capital(readings[0].dynamics)}, {formats.count(len(readings), 'cell')}: "
        + "; ".join(parts)
        + "."
    )


def _failures(deviating: Sequence[Reading], judged: Sequence[Reading]) -> list[str]:
    lines = []
    for reading in deviating:
        line = (
            f"{_capital(reading.name)}: measured {reading.mean_text}, predicted "
            f"{formats.number_from_log(reading.log_predicted)} steps, ratio {_ratio(reading)}."
        )
        if reading.warnings:
            line += f" The prediction itself warns that this fails: {'; '.join(reading.warnings)}."
        lines.append(line)
    agreeing = [reading for reading in judged if reading.verdict == "agrees"]
    if deviating and agreeing:
        lines += _separations(deviating, agreeing)
    return lines


_QUANTITIES: tuple[tuple[str, Callable[[Reading], float], Callable[[float], str]], ...] = (
    ("a batch size", lambda reading: reading.cell.batch_size, formats.parameter),
    ("a learning rate", lambda reading: reading.cell.learning_rate, formats.parameter),
    ("a barrier", lambda reading: _barrier(reading), formats.short),
    (
        "a signal-to-noise ratio s",
        lambda reading: reading.result.diagnosis.groups.signal_to_noise,
        formats.short,
    ),
    (
        "a correction for the tails of the noise, in size,",
        lambda reading: abs(reading.result.diagnosis.groups.noise_correction),
        formats.short,
    ),
)


def _separations(deviating: Sequence[Reading], agreeing: Sequence[Reading]) -> list[str]:
    """What all deviating and no agreeing cells have in common: an observation, not a cause."""
    found = []
    for name, quantity, text in _QUANTITIES:
        off, on = [quantity(r) for r in deviating], [quantity(r) for r in agreeing]
        if max(off) < min(on):
            found.append(f"{name} of {text(max(off))} or less")
        elif min(off) > max(on):
            found.append(f"{name} of {text(min(off))} or more")
    if not found:
        return []
    all_of_them = "These cells all have" if len(deviating) > 1 else "This cell has"
    return [f"{all_of_them} {formats.listing(found)}; no agreeing cell has."]


def _elsewhere(mechanism: str, readings: Sequence[Reading]) -> str:
    regions = formats.listing(list(dict.fromkeys(reading.region for reading in readings)))
    parts = []
    means = [reading.mean for reading in readings if reading.exits]
    if means:
        parts.append(f"mean exit after {formats.span(means)} steps")
    variations = [reading.variation for reading in readings if not np.isnan(reading.variation)]
    if variations:
        parts.append(f"coefficient of variation {formats.span(variations, formats.ratio)}")
    if not np.isnan([*map(_barrier, readings)]).all():
        parts.append(f"b = {formats.span(map(_barrier, readings), formats.short)}")
    text = f"{_capital(mechanism)} ({formats.count(len(readings), 'cell')}, {regions})"
    if mechanism in _MEANINGS:
        text += f": {_MEANINGS[mechanism]}"
    text += ". " + _capital("; ".join(parts)) + "." if parts else "."
    off = [
        abs(np.log(reading.mean) - reading.log_plain)
        for reading in readings
        if reading.exits and not np.isnan(reading.log_plain)
    ]
    if off:
        text += (
            " Taken at its word, the plain exponential law would be off by a factor of "
            f"{formats.span(off, formats.ratio_from_log)}."
        )
    return text


def _cautions(
    study: StudyResult,
    readings: Sequence[Reading],
    activated: Sequence[Reading],
    judged: Sequence[Reading],
) -> list[str]:
    lines = []
    missing = study.planned - len(readings)
    if missing > 0:
        lines.append(
            f"Provisional: {len(readings)} of {formats.count(study.planned, 'planned cell')} "
            f"{'is' if len(readings) == 1 else 'are'} finished."
        )
    if study.quick:
        lines.append("A quick run on the reduced grid: run the full study before quoting a number.")
    silent = [reading for reading in activated if np.isnan(reading.log_predicted)]
    if silent:
        reasons = dict.fromkeys(r.result.silence for r in silent if r.result.silence)
        why = f": {'; '.join(reasons)}" if reasons else ""
        lines.append(
            f"{formats.count(len(silent), 'activated cell')} without a prediction cannot be "
            f"compared{why}."
        )
    promoted = [reading for reading in activated if reading.promoted]
    if promoted:
        lines.append(
            f"{formats.count(len(promoted), 'cell')} called activated only from the exits, which "
            "come at the predicted rate: not counted as evidence."
        )
    aside = [
        reading
        for reading in readings
        if reading.mechanism == "drift"
        and reading.compared
        and reading.result.diagnosis.groups.shell_ratio < SHELL
    ]
    if aside:
        ratios = formats.span((reading.log_ratio[1] for reading in aside), formats.ratio_from_log)
        lines.append(
            f"{formats.count(len(aside), 'cell')} outside the typical shell but set aside as "
            "drift, a diagnosis that may rest on exits coming too early: measured / predicted "
            f"{ratios}."
        )
    leaning = [
        reading for reading in judged if reading.exits and censored_share(reading) > CENSORED
    ]
    if leaning:
        lines.append(
            f"In {formats.count(len(leaning), 'compared cell')} more than "
            f"{formats.percent(CENSORED)} of the replicas were still inside at the cap: "
            f"{'this mean rests' if len(leaning) == 1 else 'these means rest'} on the exponential "
            "law."
        )
    bounds = [reading for reading in readings if reading.measured and not reading.exits]
    if bounds:
        lines.append(
            f"{formats.count(len(bounds), 'cell')} without any exit: only a lower bound of the "
            "mean is known."
        )
    diverged = [reading for reading in readings if reading.diverged]
    if diverged:
        amount = sum(reading.diverged for reading in diverged)
        lines.append(
            f"{formats.count(amount, 'replica')} in {formats.count(len(diverged), 'cell')} "
            "diverged and are left out: those means hold on the condition of not diverging."
        )
    tested = [reading for reading in judged if not np.isnan(reading.p_value)]
    rejected = [reading for reading in tested if reading.p_value < SIGNIFICANT]
    if rejected:
        lines.append(
            f"The exponential law of exit times is contradicted (p < {SIGNIFICANT:g}) in "
            f"{len(rejected)} of {formats.count(len(tested), 'cell')} compared; chance alone would "
            f"give about {formats.number(SIGNIFICANT * len(tested), 2)}."
        )
    return lines


@dataclass(frozen=True)
class Check:
    """One assumption, and whether it holds.

    Attributes:
        status: "holds", "partly", "fails" or "note".
        verdict: the status in words.
        claim: the assumption.
        evidence: the numbers.
    """

    status: str
    verdict: str
    claim: str
    evidence: str


def checks(study: StudyResult) -> list[Check]:
    """What the comparison takes for granted, each with whether it holds in this study."""
    readings = read_all(study)
    minimum, alignment = study.minimum, study.minimum.alignment
    lowest = float(np.min(minimum.eigenvalues))
    is_minimum = lowest > 0 and minimum.flat_directions == 0
    lines = [
        Check(
            "holds" if is_minimum else "fails",
            "holds" if is_minimum else "does not hold",
            "The start is a minimum, curved upwards in every direction.",
            f"Gradient norm {formats.number(minimum.gradient_norm, 2)}, lowest curvature "
            f"{formats.number(lowest, 2)}, "
            f"{formats.count(minimum.flat_directions, 'flat direction')}.",
        ),
        Check(
            "note",
            "measured",
            "The gradient noise covariance C is proportional to the Hessian H. The predictions do "
            "not need this: they use C as measured.",
            f"Cosine of C and H {formats.number(alignment.cosine, 4)}, what c H leaves of C "
            f"{formats.percent(alignment.relative_residual)}, commutator "
            f"{formats.number(alignment.commutator, 2)}.",
        ),
    ]
    groups = [reading.result.diagnosis.groups for reading in readings]
    lines += _counted(
        "Leaving is rare: the barrier b is at least 4 (below, prefactor and exponent mix).",
        [group.barrier for group in groups],
        lambda barrier: barrier >= BARRIER,
        "b",
        formats.short,
    )
    lines += _counted(
        "Typical fluctuations do not reach the boundary: shell ratio (their square over that of "
        f"the region's size) below {formats.parameter(SHELL)}.",
        [group.shell_ratio for group in groups],
        lambda ratio: ratio < SHELL,
        "Shell ratio",
        formats.short,
    )
    lines += _counted(
        "The learning rate is stable at the minimum: η λₘₐₓ below 2.",
        [group.stiffness for group in groups],
        lambda stiffness: stiffness < 2,
        "η λₘₐₓ",
        formats.short,
    )
    lines += _stated(readings)
    lines += _counted(
        f"Few replicas are cut off: at most {formats.percent(CENSORED)} censored.",
        [censored_share(reading) for reading in readings],
        lambda share: share <= CENSORED,
        "Censored",
        formats.percent,
    )
    lines += _counted(
        "No replica diverged.",
        [float(reading.diverged) for reading in readings],
        lambda diverged: diverged == 0,
        "Diverged per cell",
        formats.parameter,
    )
    late = [
        reading.mean > reading.result.diagnosis.groups.relaxation_steps[0]
        for reading in readings
        if reading.exits
    ]
    if late:
        slowest = formats.span(group.relaxation_steps[0] for group in groups)
        lines.append(
            Check(
                "note",
                f"in {sum(late)} of {len(late)}",
                "The exit comes after every direction has relaxed. Where it does not, escape "
                "happens before stationarity; directions along which nobody leaves may stay slow.",
                f"The slowest direction relaxes in {slowest} steps.",
            )
        )
    lines.append(
        Check(
            "note",
            "by design",
            "One minimum of one landscape is studied.",
            "Nothing is said about other minima, other networks or how often training meets them.",
        )
    )
    return lines


def _counted(
    claim: str,
    values: Sequence[float],
    holds: Callable[[float], bool],
    symbol: str,
    text: Callable[[float], str],
) -> list[Check]:
    """A check made cell by cell; cells in which the value is unknown are counted apart."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return []
    good = sum(map(holds, known))
    status = "holds" if good == len(known) else "partly" if good else "fails"
    verdict = {"holds": "holds", "partly": f"in {good} of {len(known)}", "fails": "does not hold"}
    evidence = f"{symbol}: {formats.span(known, text)}"
    unknown = len(values) - len(known)
    if unknown:
        evidence += f"; unknown in {formats.count(unknown, 'cell')}"
    return [Check(status, verdict[status], claim, evidence + ".")]


def _stated(readings: Sequence[Reading]) -> list[Check]:
    """What the predictions say about their own assumptions, by topic."""
    topics: dict[str, list[bool]] = {}
    for reading in readings:
        for text in reading.assumptions if reading.compared else ():
            if text.startswith((HOLDS, FAILS)):
                topic = text.removeprefix(HOLDS).removeprefix(FAILS).split(":")[0]
                topics.setdefault(topic, []).append(text.startswith(HOLDS))
    if not topics:
        return []
    good = all(map(all, topics.values()))
    counts = [f"{topic} in {sum(held)} of {len(held)}" for topic, held in topics.items()]
    return [
        Check(
            "holds" if good else "partly",
            "holds" if good else "in part",
            "The prediction's own assumptions, as it checks them cell by cell.",
            f"{_capital('; '.join(counts))}.",
        )
    ]


def censored_share(reading: Reading) -> float:
    """Share of the replicas that count which were still inside at the cap; NaN if none counts."""
    counted = reading.exits + reading.censored
    return reading.censored / counted if counted else np.nan


def rules() -> tuple[str, ...]:
    """The rules by which the answer is worded."""
    return (
        "Only activated cells that have a prediction are compared. The mechanism is diagnosed cell "
        "by cell from the dimensionless groups, and doubtful cases from the exits; cells called "
        f"activated although their shell ratio is {formats.parameter(SHELL)} or more are left out, "
        "for there the exits, and the prediction, decided.",
        f"A cell agrees if the whole 95 % interval of measured / predicted lies within "
        f"{formats.number(1 - TOLERANCE)} to {formats.number(1 + TOLERANCE)}, deviates if all of "
        "it lies outside, and is too uncertain to tell otherwise.",
        "Intervals are those of the measured mean alone; the error a theory states for itself is "
        "given in the table and plays no part in the verdict.",
        "At 95 %, one interval in twenty misses the true mean by chance.",
    )


def _names(names: list[str]) -> str:
    """Dynamics by name while they are few."""
    return formats.listing(names) if len(names) <= _NAMED else f"SGD in {len(names)} variants"


def _ratio(reading: Reading) -> str:
    low, middle, high = (formats.ratio_from_log(end) for end in reading.log_ratio)
    return f"{middle} ({low} to {high})" if reading.exits else f"> {low}"


def _barrier(reading: Reading) -> float:
    return reading.result.diagnosis.groups.barrier


def _mechanisms(readings: Sequence[Reading]) -> str:
    return formats.listing(
        [
            f"{name} ({formats.count(len(list(group)), 'cell')})"
            for name, group in _by(readings, lambda reading: reading.mechanism)
        ]
    )


def _by(readings: Sequence[Reading], key: Callable[[Reading], str]) -> groupby:
    """Groups in the order of their first member."""
    order = list(dict.fromkeys(map(key, readings)))
    return groupby(sorted(readings, key=lambda reading: order.index(key(reading))), key=key)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
