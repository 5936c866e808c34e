import numpy as np
import pytest

from escapade.report import formats


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.61697, 3, "0.617"),
        (22.84, 3, "22.8"),
        (2581.4, 3, "2,581"),
        (106_819.0, 3, "106,800"),
        (999.96, 3, "1,000"),
        (1.034e12, 3, "1.03×10¹²"),  # noqa: RUF001
        (2.1e-17, 2, "2.1×10⁻¹⁷"),  # noqa: RUF001
        (-0.5, 2, "−0.50"),  # noqa: RUF001
        (0.0, 3, "0"),
        (np.inf, 3, "∞"),
        (np.nan, 3, formats.UNKNOWN),
    ],
)
def test_numbers_read_naturally(value, digits, text):
    assert formats.number(value, digits) == text


@pytest.mark.parametrize("log_value", [-800.0, -3.0, 0.0, 5.0, 650.0, 12_345.6])
def test_a_number_from_its_logarithm_is_right_also_beyond_the_largest_float(log_value):
    text = formats.number_from_log(log_value, 6).replace(",", "").replace(formats.MINUS, "-")
    mantissa, _, power = text.partition(formats.TIMES + "10")
    exponent = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or "0"
    assert np.log(float(mantissa)) + int(exponent) * np.log(10) == pytest.approx(
        log_value, abs=1e-5
    )


def test_ratios_of_order_one_have_two_decimals_and_others_two_digits():
    ratios = [0.0386, 0.9666, 1.0, 9.99, 12.4, 4.84e6]
    texts = ["0.039", "0.97", "1.00", "9.99", "12", "4.8×10⁶"]  # noqa: RUF001
    assert [formats.ratio(ratio) for ratio in ratios] == texts
    assert [formats.ratio_from_log(np.log(ratio)) for ratio in ratios] == texts


def test_a_span_is_one_number_when_both_ends_read_alike_and_skips_the_unknown():
    assert formats.span([3.0, np.nan, 6.0], formats.short) == "3.0 to 6.0"
    assert formats.span([1.001, 1.002], formats.ratio) == "1.00"
    assert formats.span([np.nan]) == formats.UNKNOWN


def test_words_for_amounts():
    assert formats.count(1, "cell") == "1 cell"
    assert formats.count(1200, "cell") == "1,200 cells"
    assert formats.listing(["a"]) == "a"
    assert formats.listing(["a", "b", "c"]) == "a, b and c"
    assert formats.percent(0.15) == "15 %"
    assert formats.percent(0.032) == "3.2 %"
    assert formats.duration(41.0) == "41 s"
    assert formats.duration(5400.0) == "90 min"
