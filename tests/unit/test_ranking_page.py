"""The page on which people rank clips: its files, and what it does in a browser."""

import json
import re
import shutil

from animatic_pack.evaluation.command_line import main
from animatic_pack.evaluation.ranking import average_user_ranking, read_ratings
from animatic_pack.evaluation.ranking_page import AXES, items_of, write_page
from PIL import Image
import pytest

METHODS = ("ours", "zero, shot", "tuned")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def folders(tmp_path):
    """Two clips of three methods, each of another grey."""
    for number, method in enumerate(METHODS):
        (tmp_path / method).mkdir()
        for name in ("cat", "dog"):
            pictures = [Image.new("RGB", (32, 24), (60 * number + 9 * i,) * 3) for i in range(3)]
            pictures[0].save(tmp_path / method / f"{name}.webp", save_all=True, append_images=pictures[1:])
    (tmp_path / "ours" / "cat.txt").write_text("a cat </script> & a hat")
    return {method: tmp_path / method for method in METHODS}


def study_of(page) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="study">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_copies_whose_names_do_not_tell(folders, tmp_path):
    page = write_page(tmp_path / "page", items_of(folders), list(AXES.values()))
    study = study_of(page)
    assert study["methods"] == list(METHODS) and [item["name"] for item in study["items"]] == ["cat", "dog"]
    assert study["items"][0]["prompt"] == "a cat </script> & a hat" and not study["items"][1]["prompt"]
    for item in study["items"]:
        for method, file in item["clips"].items():
            assert (page.parent / file).read_bytes() == (folders[method] / f"{item['name']}.webp").read_bytes()
            assert not any(method in file for method in METHODS)


def test_a_video_is_shown_and_not_the_still_that_was_saved_beside_it(folders):
    for folder in folders.values():
        for name in ("cat.png", "dog.jpg", "dog.MP4"):
            (folder / name).write_bytes(b"")
    cat, dog = items_of(folders)
    assert {path.suffix for path in cat.clips.values()} == {".webp"}
    assert {path.suffix for path in dog.clips.values()} == {".MP4"}


def test_what_is_missing_is_named(folders, tmp_path):
    (folders["tuned"] / "dog.webp").unlink()
    with pytest.raises(ValueError, match="tuned has no clip dog"):
        items_of(folders)
    with pytest.raises(FileNotFoundError, match="no folder"):
        items_of({"a": tmp_path / "nowhere", "b": folders["ours"]})
    with pytest.raises(ValueError, match="two methods"):
        items_of({"a": folders["ours"]})


def test_a_prompt_that_is_not_utf_8_is_named_and_a_mark_before_it_is_no_part_of_it(folders, tmp_path, capsys):
    path = folders["ours"] / "cat.txt"
    path.write_text("\u732b", encoding="utf-8-sig")
    assert items_of(folders)[0].prompt == "\u732b"
    path.write_text("\u732b", encoding="utf-16")
    assert main(["page", str(tmp_path / "page"), *(f"{number}={f}" for number, f in enumerate(folders.values()))]) == 1
    said = capsys.readouterr().err
    assert str(path) in said and "Save the prompt in UTF-8." in said


@pytest.fixture
def browser():
    """Chromium without a window, driven by Playwright; where either is missing, these tests cannot be."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser's test needs pip install playwright")
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"the browser's test needs one of {', '.join(BROWSERS)} on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def begin(page, url: str, rater: str) -> None:
    page.goto(url)
    page.fill("#rater", rater)
    page.click("#begin")


def shown_methods(page, study: dict) -> list[str]:
    """Which method each clip on the page is of, from left to right."""
    files = {file: method for item in study["items"] for method, file in item["clips"].items()}
    sources = page.eval_on_selector_all("#clips img", "all => all.map(one => one.getAttribute('src'))")
    return [files[source] for source in sources]


def rank_all(page, study: dict, places: dict[str, str]) -> None:
    for _ in study["items"]:
        methods = shown_methods(page, study)
        for row in page.query_selector_all("#questions tr"):
            for method, choice in zip(methods, row.query_selector_all("select"), strict=True):
                choice.select_option(places[method])
        if page.is_enabled("#next"):
            page.click("#next")


def test_clips_are_shown_ranked_saved_and_read_back(browser, folders, tmp_path, capsys):
    named = [f"{method}={folder}" for method, folder in folders.items()]
    assert main(["page", str(tmp_path / "page"), *named]) == 0
    path = tmp_path / "page" / "index.html"
    study, context = study_of(path), browser.new_context()
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    tables, orders = [], set()
    for rater, places in (("Ann", "123"), ("Bob", "233")):
        begin(page, path.as_uri(), rater)
        orders.add(tuple(shown_methods(page, study)))
        assert page.eval_on_selector_all("#clips img", "all => all.every(one => one.naturalWidth === 32)")
        assert page.is_disabled("#save") and page.is_disabled("#next")
        rank_all(page, study, dict(zip(METHODS, places, strict=True)))
        assert page.is_visible("#done")
        page.reload()
        begin(page, path.as_uri(), rater)
        assert page.is_visible("#done"), "a reload keeps what was entered"
        with page.expect_download() as download:
            page.click("#save")
        assert download.value.suggested_filename == f"ranking_{rater}.csv"
        tables.append(tmp_path / f"{rater}.csv")
        download.value.save_as(tables[-1])
    assert not faults
    ratings = read_ratings(tables)
    assert len(ratings) == 2 * 2 * 3 * 3 and {rating.item for rating in ratings} == {"cat", "dog"}
    found = average_user_ranking(ratings)
    for axis in AXES:
        assert [estimate.value for estimate in found[axis].values()] == pytest.approx([3, 1.75, 1.25])
    capsys.readouterr()
    assert main(["ranking", *map(str, tables)]) == 0
    assert "| ours | 3.00 [3.00, 3.00] | 3.00" in capsys.readouterr().out


def test_the_order_is_another_for_other_people_and_the_prompt_is_text(browser, folders, tmp_path):
    path = write_page(tmp_path / "page", items_of(folders), list(AXES.values()))
    study, page = study_of(path), browser.new_page()
    first = {}
    for rater in "ABCDEFGHIJKLMNOP":
        begin(page, path.as_uri(), rater)
        first[rater] = shown_methods(page, study)[0]
        if "</script>" in page.inner_text("#prompt"):
            assert page.inner_text("#prompt") == "Prompt: a cat </script> & a hat"
    assert set(first.values()) == set(METHODS)
