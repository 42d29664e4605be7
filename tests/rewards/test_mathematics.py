"""Two answers are compared as mathematics; every verdict here was worked out by hand."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.rewards import mathematics
from omnistage.rewards.lmm_r1 import lmm_math
from omnistage.rewards.mathematics import same

CASES = [
    ("2√{3}", "2", False),
    ("2√{3}", r"$2\sqrt{3}$", True),
    ("2√{3}", "2√3", True),
    ("2√{3}", r"\sqrt{12}", True),
    ("2√{3}", "√12", True),
    ("2√{3}", "3.46", False),
    ("9πcm^{2}", "9π", True),
    ("9πcm^{2}", r"9\pi \text{ cm}^2", True),
    ("9πcm^{2}", "9", False),
    ("9πcm^{2}", "9π cm", False),
    ("9πcm^{2}", "28.27", False),
    ("9π", r"$9\pi$ cm²", True),
    ("120°", "120", True),
    ("120°", r"$120^\circ$", True),
    ("120°", "120 degrees", True),
    ("120°", r"\frac{2\pi}{3}", True),
    ("120°", "60", False),
    ("30°15'", "30.25°", True),
    ("30°15'", "45", False),
    ("1.5e3", "1500", True),
    ("1,234", "1234", True),
    ("50%", "0.5", True),
    ("5", "x = 5", True),
    ("5", "AB = 5 cm", True),
    ("5", "The length of AB is 5.", True),
    ("5", "The length of AB is $5$ cm.", True),
    ("5", "the area is a 6", False),
    ("9π", "The area is 9π cm².", True),
    ("9π", "the area is 9", False),
    ("5√{2}/2", r"\frac{5\sqrt{2}}{2}", True),
    ("5√{2}/2", r"\frac{5}{\sqrt 2}", True),
    ("100 cm", "1 m", True),
    ("100 cm", "1 kg", False),
    ("1 m^2", "10000 cm^2", True),
    ("60 km/h", "60", True),
    ("1 L", "1000 cm^3", True),
    ("10 square inches", "10 in^2", True),
    ("60 km/h", "60 mph", False),
    ("60 mph", "60", True),
    ("5 km", "5 acres", False),
    ("5 kg", "5 bushels", False),
    ("7 sides", "7 edges", True),
    ("1 ton", "1000 kg", True),
    ("1 acre", "4046.8564224 m^2", True),
    ("2 years", "24 months", True),
    ("3 dozen", "36", True),
    ("30 minutes", "30 Minutes", True),
    ("45°", "45 Degrees", True),
    ("$5", "5 Dollars", True),
    ("4 feet", "4 FEET", True),
    ("5 MPa", "5 mPa", False),
    ("5 years", "5 yrs", True),
    ("5 km/h", "5 kmph", True),
    ("8 g", "8 grammes", True),
    ("3 fluid ounces", "3", True),
    ("1 hour and 30 minutes", "1.5 hours", True),
    ("3 cm, 4 cm", "7 cm", False),
    ("3 cm and 4 cm", "2 cm and 5 cm", False),
    ("45°, 45°, 90°", "60°, 60°, 60°", False),
    ("12 m and 5 m", "12 and 5", True),
    ("5 kHz", "5 KHz", True),
    ("25 °C", "25 celsius", True),
    ("20 ft²", "20 sqft", True),
    ("$5", "5 USD", True),
    ("25 mol/L", "25", True),
    ("10 dB", "10", True),
    ("12 KG", "12 kg", True),
    ("10 kW·h", "36 MJ", True),
    ("50 cents", "$0.50", True),
    ("1 hour 30 minutes", "90 minutes", True),
    ("5 ft 6 in", "66 in", True),
    ("5 ft 6 in", "65 in", False),
    ("5 ft 6 kg", "66 in", False),
    (r"0.\overline{3}", "1/3", True),
    (r"0.1\overline{6}", "1/6", True),
    ("3", "three", True),
    ("1", "one half", False),
    ("2m", "2m", True),
    ("2 m", "2", True),
    ("2x", "2x", True),
    ("2x", "2", False),
    ("$16$", "16", True),
    ("$16$", r"\boxed{16}", True),
    (r"\frac{1}{2}", "0.5", True),
    ("½", "0.5", True),
    ("3:4", r"\frac34", True),
    ("(3,4)", "(3, 4)", True),
    ("(3,4)", "(4,3)", False),
    ("2, 3", "$2$ and $3$", True),
    ("2, 3", "3, 2", True),
    ("±2", "2, -2", True),
    ("A", "A", True),
    ("A", "B", False),
    ("x^2+2x+1", "(x+1)^2", True),
    ("$(x+1)^2$", "x^2 + 2x + 1", True),
    ("$5", "5", True),
    ("$5", "5 dollars", True),
    ("9π", "9π ≈ 28.27", True),
    ("28.27", "9π ≈ 28.27", True),
    # A chain of equations is right by what it comes to.
    ("7.5", r"\frac{3 \times 5}{2} = \frac{15.5}{2} = 7.75", False),
    ("7.75", r"\frac{3 \times 5}{2} = \frac{15.5}{2} = 7.75", True),
    ("5", "x = 5", True),
    ("5", "5 = x", True),
    ("10√3", "x = 10√3 ≈ 17.3", True),
    ("y = 2x + 1", "2x + 1 = y", True),
    ("42", r"Hence \boxed{42}.", True),
    ("42", "", False),
    ("42", "I do not know", False),
    ("(see the figure)", "2", None),
    ("", "2", None),
    ("$$", "2", None),
    ("10√{3} cm", r"10\sqrt{3}\text{ cm}", True),
    ("10√{3} cm", "10√3", True),
    ("4√{2}+2", "2+4√2", True),
    ("√{a^2+b^2}", r"\sqrt{a^2+b^2}", True),
    ("25π", "25*pi", True),
    ("2√{13}", "2 sqrt(13)", True),
    ("72", "72 cm", True),
    ("12 cm", "12 cm", True),
    ("3/4π", r"\frac{3\pi}{4}", True),
    ("-3", "−3", True),
    ("n=7", "7", True),
    ("7", "n = 7 sides", True),
    ("6", "six", True),
    ("20 m/s", "20 km/h", False),
    ("72 km/h", "20 m/s", True),
    ("0.5", "1/2", True),
    ("24", "24 square units", True),
    ("24", "24 units^2", True),
    ("36°", "∠A = 36°", True),
    ("√2", "1.414", False),
    ("8 in.", "8", True),
    ("8 in", "8 inches", True),
    ("5 cm", "5 m", False),
    # Units: an answer without them is right, another of the kind by its exact value.
    ("4 Ω", "4", True),
    ("5Ω", "5 ohms", True),
    (r"5\,\text{k}\Omega", "5000 Ω", True),
    ("12 V", "12", True),
    ("3 A", "3", True),
    ("5 V", "5 A", False),
    ("option A", "A", False),
    ("2x", "2", False),
    ("5 Hz", "5", True),
    ("20 W", "20", True),
    ("5 Pa", "5", True),
    ("300 K", "300", True),
    ("25°C", "25", True),
    ("25°C", r"25^\circ\text{C}", True),
    ("25°C", "25 degrees Celsius", True),
    ("25°C", "25 degrees", True),
    ("25°C", "25°F", False),
    ("5 μm", "5", True),
    ("5 μm", r"5000\text{ nm}", True),
    ("€12", "12", True),
    ("€12", "12 euros", True),
    ("£5", "5 pounds", True),
    ("£5", "€5", False),
    ("12cm2", "12", True),
    ("12 cm²", "12 cm2", True),
    ("6√3 cm2", "6√3", True),
    ("8π m2", "8π", True),
    ("5 ft", "60 in", True),
    ("60 in", "5 ft", True),
    ("1 hour", "60 minutes", True),
    ("1/3 h", "20 min", True),
    ("1 day", "24 h", True),
    ("3 yd", "9 ft", True),
    ("1 mi", "5280 ft", True),
    ("5 m/s", "18 km/h", True),
    # Roots, mixed numbers, thousands, powers of ten, degrees in a function.
    ("³√8", "2", True),
    ("∛27", "3", True),
    ("2∛8", "4", True),
    ("1 1/2", "1.5", True),
    ("-1 1/2", "-1.5", True),
    ("⅔", "2/3", True),
    ("3⅔", "11/3", True),
    ("1 234", "1234", True),
    ("(1, 234)", "1234", False),
    ("1.5 x 10^3", "1500", True),
    ("sin 30°", "1/2", True),
    (r"\tan(45^\circ)", "1", True),
    ("cos 60", "1/2", False),
    # Lists of quantities, words around a value.
    ("12 cm or 6 cm", "6 cm or 12 cm", True),
    ("12 cm or 6 cm", "$6$ cm and $12$ cm", True),
    ("12 cm or 6 cm", "6 cm", False),
    ("12 cm or 6 cm", "12 cm", False),
    ("13 or 14", "14 or 13", True),
    ("6 cm", "about 6 cm", True),
    ("6", "**6**", True),
    ("3.141592653589793238", "3.141592653589793", False),
    ("0.10", "0.1", True),
    ("25", "25%", True),  # as after "what percentage"
]


@pytest.mark.parametrize(("gold", "answer", "verdict"), CASES)
def test_gold_and_answer(gold: str, answer: str, verdict: bool | None):
    assert same(gold, answer) is verdict


def answered(text: object) -> str:
    return f"<think>so</think><answer>{text}</answer>"


def test_case_d07_roots_pi_and_units_of_a_geometry_set():
    assert lmm_math([answered("2")], solution=["2√{3}"]) == [0.0]
    assert lmm_math([answered(r"$2\sqrt{3}$")], solution=["2√{3}"]) == [1.0]
    assert lmm_math([answered("9π")], solution=["9πcm^{2}"]) == [1.0]


@pytest.mark.parametrize(
    ("text", "gold", "reward"),
    [
        (answered(r"$\frac{1}{2}$"), "$0.5$", 1.0),
        (answered("x^2 + 2x + 1"), "$(x+1)^2$", 1.0),
        (r"Hence \boxed{42}.", "42", 1.0),
        (answered("1") + answered("42"), "42", 1.0),  # the last answer counts
        (answered("41"), "$42$", 0.0),
        (answered(""), "$42$", 0.0),
        ("I do not know", "$42$", 0.0),
        (answered("(B)"), "B", 1.0),
        (answered("B. 45"), "B", 1.0),
        (answered("C"), "B", 0.0),
        (answered("The answer is B"), "B", 1.0),
        (answered("The correct answer is: (B) 45"), "B", 1.0),
        (answered("The answer is C"), "B", 0.0),
        (answered("Option B"), "B", 1.0),
        (answered("Option C"), "B", 0.0),
        (answered("A"), "A. 5 cm", 1.0),
        (answered("B"), "A. 5 cm", 0.0),
        (answered("5"), "A. 5 cm", 1.0),
        (answered("A"), "A: 3, B: 4", 0.0),
        (answered("42"), "", None),
        (answered("42"), None, None),
        (answered("42"), "$$", None),
        (answered("42"), "(see the figure)", None),
    ],
)
def test_lmm_math(text: str, gold: str | None, reward: float | None):
    assert lmm_math([text], solution=[gold]) == [reward]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "(" * 40 + "5" + ")" * 40,
        "9^{9^{9^9}}",
        "(9^9)^{9^9}",
        "9^{99999999}",
        "99999999!",
        "x^" * 300 + "2",
    ],
)
def test_what_would_be_computed_for_long_is_not_computed(
    text: str, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: object, **__: object) -> object:
        raise AssertionError("asked math-verify")

    assert same("5", "5") is True
    monkeypatch.setattr(mathematics, "_math_verify", lambda: (never, never))
    assert same("5", text) is False


@pytest.mark.parametrize(("gold", "answer"), [("128", "2^{3}4^{2}"), ("10^{-19}", "10^{-19}")])
def test_powers_side_by_side_are_no_tower(gold: str, answer: str):
    assert same(gold, answer) is True


def test_lmm_math_works_outside_the_main_thread():
    rewards: list[float | None] = []
    thread = threading.Thread(
        target=lambda: rewards.extend(lmm_math([answered("7/2")], solution=["3.5"]))
    )
    thread.start()
    thread.join()

    assert rewards == [1.0]


@settings(max_examples=30, deadline=None)
@given(
    st.text(max_size=25) | st.text(alphabet="√{}()^0123456789/.,:°'πcmx+-=$\\ ", max_size=20),
    st.text(max_size=12) | st.sampled_from(["2√{3}", "9πcm^{2}", "$16$", "A", "(3,4)"]),
)
def test_lmm_math_never_raises(text: str, gold: str):
    assert lmm_math([text], solution=[gold])[0] in (None, 0.0, 1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 99), st.integers(2, 99), st.sampled_from(["", " cm", "°", " cm^2", "m"]))
def test_a_root_equals_itself_however_it_is_written(factor: int, root: int, unit: str):
    gold = f"{factor}√{{{root}}}{unit}"
    assert same(gold, rf"${factor}\sqrt{{{root}}}$") is True
    assert same(gold, f"{factor}√{root}") is True
    assert same(gold, str(factor)) is False
