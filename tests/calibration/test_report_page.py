"""The page of a calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk.calibration.report_page import calibration_page
from edge_sdk.calibration.report_pictures import Example
from edge_sdk.report.page import Page

from ..report.outcomes import CASES, HOSTILE, Case, make_outcome  # noqa: TID252  there is no package of tests to name
from ..report.test_page import Outline  # noqa: TID252  there is no package of tests to name
from ..sinks.test_http_page import CHROMIUM, Browser  # noqa: TID252
from .scenes import scene
from .test_report_pictures import found

pytest.importorskip("plotly", reason="plotly is not installed")


def text(page: Page) -> str:
    """What a reader sees, without the plots."""
    return " ".join(" ".join(Outline(page.html()).texts).split())


def labels(page: Page) -> list[str]:
    """What the plots say they show."""
    return [str(one["aria-label"]) for one in Outline(page.html()).attributes("div") if "data-plot" in one]


def test_the_answer_comes_first_with_its_figures_and_their_intervals() -> None:
    said = text(calibration_page(make_outcome()))
    answer = (
        "yolox_nano.onnx for generic-x86_64 Which layer runs in which precision: planned for onnxruntime 1.31.1, "
        "x86_64, AVX2 without VNNI. The pick. INT8 in 55 of 80 groups: 0.912 of the optimized float's time (0.901 to "
        "0.924), mAP50-95 0.2975 against 0.2989, drop 0.0014 (-0.0041 to 0.0069) on 39 photos. Of the candidates "
        "within the budget it has the best lower bound of accuracy."
    )
    assert answer in said
    for part in (
        "Warning. What makes the answer less sure: 39 acceptance photos cannot decide", "latency ratio 0.912",
        "25.9 ms measured, generic-x86_64", "mAP50-95 0.2975 float 0.2989", "file 1.54 MiB as given 3.53 MiB",
        "max map drop 0.005", "hybrid 2 the pick 0.904 0.912 (0.901 to 0.924) 25.9 ms, measured",
        "0 (-0.0004 to 0.0004)", "Layers of hybrid 3 that do not run as planned: head.cls.2/conv: planned int8",
        "As promised. Latency of 6 candidates: the predicted ratio is off by 1.6 % in the median and 2.0 % at worst",
        "the predicted drop lies within the measured interval in 6 of 6", "80 groups in the order of the computation",
        "the engine has no INT8 kernel of Resize", "pinned", "R2 0.87, cross-validated over 412 probed masks",
        "Most time for least accuracy", "Most accuracy for least time", "38 hard-swishes written as HardSigmoid * x",
        "bias correction, kept", "min-max 61 tensors", "worst error 0.047", "for acceptance 39",
        "left out: duplicate 6", "scored by the labels", "masks probed 412", "sensitivity 71.3 s", "How to read this",
    ):  # fmt: skip
        assert part in said, part


def test_the_plots_say_what_they_show() -> None:
    front, ratios, drops, groups, pairs = labels(calibration_page(make_outcome()))
    assert front.startswith("Drop of accuracy against latency of 8 candidates. float 1.07 at a drop of 0")
    assert ratios.startswith("Predicted against measured latency ratio. uniform int8 1.01, 1.03")
    assert drops.startswith("Predicted against measured drop of mAP50-95.")
    assert groups.startswith("Damage of each of 76 groups alone in INT8 against the time that it saves. Most damage: ")
    assert pairs.startswith("Interactions of 16 groups. The strongest: ")


def test_a_missed_budget_and_a_simple_answer_are_said_at_once() -> None:
    said = text(calibration_page(make_outcome("not_met")))
    assert "Budget not met. INT8 in " in said
    assert "No candidate is within both budgets" in said
    said = text(calibration_page(make_outcome("no_hybrid")))
    assert "The pick. The optimized float, with INT8 in no group: 28.4 ms, mAP50-95 0.2989" in said
    assert "INT8 is slower than float on this machine" in said
    assert "No damage model was fitted" in said
    assert "No swap of a single group is predicted to gain" in said
    given = replace(make_outcome("no_hybrid").pick, name="float")
    assert "The file as it was given: 1.072 of the optimized" in text(calibration_page(make_outcome(pick=given)))


def test_an_estimate_is_called_one_wherever_a_latency_stands() -> None:
    page = calibration_page(make_outcome("estimated"))
    said = text(page)
    assert "0.912 of the optimized float's time (0.901 to 0.924, ESTIMATED)" in said
    assert "latencies marked ESTIMATED come from a table or a model" in said
    assert said.count("ms, ESTIMATED") == 8  # each candidate's
    for part in ("predicted ratio ESTIMATED", "saved ms ESTIMATED", "swapped: latency ratio ESTIMATED",
                 "25.9 ms ESTIMATED, raspberry-pi-5", "method estimated"):  # fmt: skip
        assert part in said, part
    scripts = " ".join(script for _, script in Outline(page.html()).scripts[:8])
    assert "latency ratio, ESTIMATED" in scripts
    assert "ms that INT8 saves, ESTIMATED" in scripts
    assert "Predicted against measured latency" not in " ".join(labels(page))
    assert "ESTIMATED" not in text(calibration_page(make_outcome()))


def test_energy_has_a_column_where_there_is_one() -> None:
    assert "energy mJ" in text(calibration_page(make_outcome("estimated")))
    assert "energy" not in text(calibration_page(make_outcome()))


def test_a_metric_of_the_users_own_has_its_name_and_no_interval() -> None:
    said = text(calibration_page(make_outcome("custom_metric")))
    assert "counted people 0.2975 against 0.2989, drop 0.0014 on 39 photos" in said
    assert "drop of counted people 0.0014 no interval" in said
    assert "mAP" not in said.partition("How to read this")[0].replace("max map drop", "")


def test_predictions_that_are_off_are_said() -> None:
    made = make_outcome()
    off = tuple(replace(one, predicted_ratio=1.3, predicted_drop=0.5) for one in made.candidates)
    said = text(calibration_page(replace(made, candidates=off)))
    assert "Further off. Latency of 6 candidates" in said
    assert "within the measured interval in 0 of 6" in said


@pytest.mark.parametrize("case", CASES)
def test_every_outcome_has_a_page(case: Case) -> None:
    page = calibration_page(make_outcome(case))
    found = Outline(page.html())
    assert not [one for one in found.elements if one[0] == "b"]
    assert "nan" not in text(page).lower().split()


def test_hostile_names_are_only_shown() -> None:
    page = calibration_page(make_outcome("weird"))
    assert HOSTILE.partition("\u202e")[0] in text(page)
    scripts = [body for kind, body in Outline(page.html()).scripts if kind.get("type") is None]
    assert len(scripts) == 2  # Plotly's and the page's
    assert "xxxxxxxxxxxxxxxxxxxx" in text(page)
    assert "x" * 200 not in text(page)
    assert "and 52 more" in text(page)


def test_photos_are_shown_before_and_after_with_what_changed() -> None:
    before, after = found((0.9, 10, 0), (0.4, 60, 0)), found((0.8, 10, 0))
    page = calibration_page(make_outcome(), [Example("a.jpg", scene(3), before, after, "typical")], ["person"])
    pictures = Outline(page.html()).attributes("img")
    assert [one["alt"] for one in pictures] == [
        "a.jpg with the float model's boxes",
        "a.jpg with the pick's boxes: 2 boxes in float, 1 in the pick; lost: person 0.40; scores moved by 0.10 at most",
    ]
    assert all(str(one["src"]).startswith("data:image/jpeg;base64,") for one in pictures)
    assert "hybrid 2 (typical): 2 boxes in float" in text(page)
    assert "This page was drawn without the photos" in text(calibration_page(make_outcome()))


@pytest.mark.parametrize(
    ("case", "width", "dark"), [pytest.param("normal", 1280, True, marks=pytest.mark.slow), ("weird", 360, False)]
)
def test_a_browser_draws_it(tmp_path: Path, case: Case, width: int, dark: bool) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: there is no {CHROMIUM}")
    path = tmp_path / "report.html"
    calibration_page(make_outcome(case)).save(path)
    browser = Browser(tmp_path / "browser")
    try:
        browser.open(path.as_uri(), width=width, height=800, dark=dark)
        browser.until(
            "document.readyState === 'complete' && [...document.querySelectorAll('[data-plot]')].length === 5 && "
            "[...document.querySelectorAll('[data-plot]')].every(one => one.querySelector('.main-svg'))"
        )
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("performance.getEntriesByType('resource').length") == 0
        assert browser.complaints == []
    finally:
        browser.close()
