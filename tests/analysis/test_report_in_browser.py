"""The report in a real browser: it loads, brushes, sorts and filters, and names do nothing."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generated import generated_records, settings_of

from betanas.jobs.report import analyse_records, write_report
from betanas.study.loading import load_definition

HOSTILE = (
    "</script><script>window.hit=1</script>",
    '"><img src=x onerror="window.hit=1">',
    "<svg/onload=window.hit=1>",
    "'-window.hit=1-'",
    "javascript:window.hit=1",
    "</title></style><!--",
    "\u2028window.hit=1//",
)


class Opened:
    """A page, and all that its console and its network have seen."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def shown(self) -> list[int]:
        """Numbers of the rows that can be seen, in order."""
        return self.page.evaluate(
            "[...document.querySelectorAll('#trials-table tbody tr')]"
            ".filter(r => !r.hidden).map(r => Number(r.dataset.trial))"
        )

    def selected(self) -> list[int]:
        """Numbers of the lines that stand out."""
        return self.page.evaluate(
            "[...document.querySelectorAll('#coordinates path.on')]"
            ".map(p => Number(p.dataset.trial))"
        )

    def brush(self, axis: str, top: float, bottom: float) -> None:
        """Drags along an axis; shares of its height from the top."""
        self.page.locator("#coordinates").scroll_into_view_if_needed()
        box = self.page.locator(f'#coordinates .hit[data-axis="{axis}"]').bounding_box()
        edge = box["height"] * 4 / 286  # the hit area reaches over the axis a little
        low, length = box["y"] + edge, box["height"] - 2 * edge
        x = box["x"] + box["width"] / 2
        self.page.mouse.move(x, low + top * length)
        self.page.mouse.down()
        self.page.mouse.move(x, low + (top + bottom) / 2 * length)
        self.page.mouse.move(x, low + bottom * length)
        self.page.mouse.up()

    def sort(self, column: str) -> None:
        self.page.locator("#trials-table th button", has_text=column).first.click()


@pytest.fixture(scope="module")
def folder(findings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_report(findings, folder)
    return folder


@pytest.fixture
def opened(browser, folder) -> Iterator[Opened]:
    opened = Opened(browser, folder / "report.html", viewport={"width": 1200, "height": 900})
    yield opened
    assert opened.errors == []
    assert opened.requests == [(folder / "report.html").as_uri()]
    opened.page.context.close()


def test_it_loads_with_a_line_and_a_row_for_every_trial(opened, records) -> None:
    assert len(opened.shown()) == len(records)
    assert sorted(opened.selected()) == list(range(len(records)))
    assert opened.page.locator("#coordinates path.first").count() == 50
    assert opened.page.locator("#selected").inner_text() == "150 of 150 trials"
    assert opened.page.locator("svg.figure").count() == 12


def test_brushing_selects_trials_and_a_click_lets_go(opened, records, findings) -> None:
    low, high = findings.ranges["B"]
    opened.brush("B", 0.0, 0.5)
    upper = {r.number for r in records if (r.parameters["B"] - low) / (high - low) >= 0.5}
    near = {r.number for r in records if abs((r.parameters["B"] - low) / (high - low) - 0.5) < 0.01}
    assert set(opened.selected()) - near == upper - near
    assert set(opened.shown()) == set(opened.selected())
    opened.brush("accuracy", 0.0, 0.3)
    both = set(opened.selected())
    assert 0 < len(both) < len(upper)
    assert all(records[n].value is not None for n in both)
    opened.page.locator('#coordinates .hit[data-axis="B"]').click()
    assert len(opened.selected()) > len(both)
    opened.page.locator("#clear").click()
    assert len(opened.shown()) == len(records)


def test_the_keyboard_brushes_too(opened, records) -> None:
    opened.page.locator('#coordinates .hit[data-axis="k"]').focus()
    opened.page.keyboard.press("ArrowUp")
    some = len(opened.selected())
    assert 0 < some < len(records)
    opened.page.keyboard.press("Escape")
    assert len(opened.selected()) == len(records)


def test_sorting_by_a_column_both_ways(opened, records) -> None:
    complete = sorted(
        (r for r in records if r.state == "complete"), key=lambda r: (-r.value, r.number)
    )
    assert opened.shown()[: len(complete)] == [r.number for r in complete]
    opened.sort("trial")
    assert opened.shown() == list(range(len(records)))
    opened.sort("trial")
    assert opened.shown() == list(range(len(records)))[::-1]
    opened.sort("params")
    assert opened.page.locator("th[aria-sort=ascending]").inner_text().startswith("params")
    sizes = [records[n].num_params for n in opened.shown()]
    known = [s for s in sizes if s is not None]
    assert known == sorted(known)
    assert sizes[len(known) :] == [None] * (len(sizes) - len(known))


def test_filtering_by_words_and_comparisons(opened, records) -> None:
    field = opened.page.locator("#filter")
    field.fill("diverged")
    assert opened.shown() == [100]
    field.fill("sobol complete params<5M")
    wanted = {
        r.number
        for r in records
        if r.phase == "sobol" and r.state == "complete" and r.num_params < 5e6
    }
    assert wanted
    assert set(opened.shown()) == wanted
    field.fill("accuracy>=70")
    assert set(opened.shown()) == {r.number for r in records if r.value and r.value >= 0.7}
    field.fill("no such word")
    assert opened.shown() == []
    field.fill("")
    opened.page.locator("#show-rejected").uncheck()
    assert set(opened.shown()) == {r.number for r in records if r.state not in ("pruned", "fail")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_no_page_sideways(browser, folder, scheme) -> None:
    size = {"width": 390, "height": 844}
    phone = Opened(browser, folder / "report.html", viewport=size, color_scheme=scheme)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    back = phone.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in back[4:-1].split(","))
    assert (light > 600) == (scheme == "light")
    assert phone.errors == []
    phone.page.context.close()


def test_hostile_names_do_nothing(browser, definition, tmp_path) -> None:
    hostile = HOSTILE[0]
    settings = settings_of(definition, tuple(HOSTILE))
    records = generated_records(definition, settings, 24)
    for i, text in enumerate(HOSTILE):
        records[i] = dataclasses.replace(
            records[i], reason=text, phase=text, state="fail", value=None
        )
    records[20] = dataclasses.replace(records[20], audit={**records[20].audit, "device": hostile})
    named = definition.model_copy(update={"name": hostile})
    findings = analyse_records(named, settings, records)
    files = write_report(findings, tmp_path)
    page = Opened(browser, files[0])
    assert page.page.evaluate("window.hit") is None
    assert page.page.locator("h1").inner_text() == hostile
    assert len(page.shown()) == 24
    said = page.page.locator("#trials-table").inner_text()
    assert HOSTILE[1] in said
    assert page.page.locator("img").count() == 0
    assert page.page.locator("script").count() == 2
    assert page.errors == []
    assert len(page.requests) == 1
    page.page.context.close()
    for svg in (tmp_path / "figures").glob("*.svg"):
        drawn = Opened(browser, svg)
        assert drawn.page.evaluate("window.hit") is None
        assert drawn.errors == []
        drawn.page.context.close()


def test_trials_that_were_trained_again_have_a_section(
    browser, definition, settings, records, tmp_path: Path
) -> None:
    best = sorted(
        (r for r in records if r.value is not None and r.state == "complete"),
        key=lambda r: -(r.value or 0),
    )[:2]
    repeated = [
        dataclasses.replace(
            record,
            number=len(records) + 3 * i + seed,
            phase="confirm",
            value=(record.value or 0) - 0.01 * seed,
            audit={**record.audit, "repeats": record.number, "seed_index": seed},
        )
        for i, record in enumerate(best)
        for seed in range(3)
    ]
    again = analyse_records(definition, settings, [*records, *repeated])
    write_report(again, tmp_path)
    opened = Opened(browser, tmp_path / "report.html")
    text = opened.page.inner_text("body")
    assert opened.errors == []
    assert "trained again with new seeds" in text
    assert str(best[0].number) in (tmp_path / "confirmed.csv").read_text()
    assert again.observed is not None
    assert again.observed.number == best[0].number  # the search's best stays the search's
    assert again.summary["feasible"] == sum(r.counts for r in records)


def test_weighed_values_have_columns_and_a_trial_without_a_parameter_its_line(
    browser, tmp_path: Path
) -> None:
    definition = load_definition("betanet2", ["objective.latency_weight=0.1"])
    settings = settings_of(definition)
    records = generated_records(definition, settings, 6)
    timed = {"accuracy": 0.75, "latency": {"p50_ms": 2.0, "p95_ms": 3.0}}
    whole = dataclasses.replace(records[0], state="fail", value=None, reason="diverged")
    lacking = {k: v for k, v in whole.parameters.items() if k != "Da"}
    records[:3] = [
        whole,
        dataclasses.replace(whole, number=1, parameters=lacking),
        dataclasses.replace(whole, number=2, state="complete", value=0.6807, audit=timed),
    ]
    write_report(analyse_records(definition, settings, records), tmp_path)
    opened = Opened(browser, tmp_path / "report.html")
    assert opened.page.locator("#trials-table th button").all_inner_texts()[1:4] == [
        "weighed",
        "accuracy",
        "latency_ms",
    ]
    cells = opened.page.locator("#trials-table tr[data-trial='2'] td").all_inner_texts()
    assert cells[1:4] == ["0.6807", "75.00", "2.00"]
    first, second = (
        opened.page.locator(f"#coordinates path[data-trial='{n}']").get_attribute("d").split("L")
        for n in (0, 1)
    )
    place = list(definition.parameters).index("Da")
    assert second == first[:place] + first[place + 1 :]
    assert opened.errors == []
    opened.page.context.close()
