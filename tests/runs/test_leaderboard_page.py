"""The leaderboard as a page: nothing in it comes alive, and a browser sorts and filters it."""

import re
from pathlib import Path

import pytest
from browser import browser  # noqa: F401 - a fixture

import corrkit
from corrkit.runs.leaderboard_files import write_leaderboard

EVIL = "<script>alert(1)<script>&\"'"


@pytest.fixture
def board(finished, tmp_path) -> Path:
    """Official rows of two protocols, embedded ones, one with a hostile name; with floor."""
    folders = [finished("davis", name, skill) for name, skill in (("b.pth", 0.5), (EVIL, 0.7), ("identity", 0.2))]
    folders += [finished("vip", "b.pth", 0.4), finished("davis", "c.pth", 0.9, protocol="davis/crw")]
    folders += [finished("davis", "d.pth", 0.3, origin="embedded")]
    write_leaderboard(corrkit.leaderboard(folders, reference=folders[0]), tmp_path / "board.html")
    return tmp_path / "board.html"


def test_the_page_holds_the_table_and_nothing_that_comes_alive(board: Path):
    text = board.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;script&gt;&amp;&#34;&#39;" in text
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org)|url\(", text)
    assert text.count("<section ") == 3
    # J&F, J and F of five rows of DAVIS, mIoU of one of VIP
    assert len(re.findall(r'<i style="left: [\d.]+%; right: [\d.]+%">', text)) == 3 * 5 + 1
    assert "Frames/s" not in text


def test_the_page_is_sorted_and_filtered_in_a_browser(board: Path, browser):  # noqa: F811
    script = """(() => {
      const first = document.querySelector("section table");
      const names = () => [...first.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
      const head = [...first.querySelectorAll("th")];
      const click = (name) => head.find((one) => one.textContent === name).querySelector("button").click();
      const before = names();
      click("J&F"); const down = names();
      click("J&F"); const up = names();
      click("mIoU"); const missing = names();
      const shown = () => [...document.querySelectorAll("section")].filter((one) => !one.hidden).length;
      const choose = (name, value) => {
        const select = document.querySelector(`select[data-filter=${name}]`);
        select.value = value; select.dispatchEvent(new Event("change"));
      };
      const counts = [shown()];
      choose("protocol", "davis/crw@1"); counts.push(shown());
      choose("protocol", ""); choose("origin", "embedded"); counts.push(shown());
      choose("protocol", "davis/crw@1"); counts.push(shown());
      choose("protocol", ""); choose("origin", ""); counts.push(shown());
      return {before, down, up, missing, counts, width: innerWidth, page: document.documentElement.scrollWidth};
    })()"""
    for width in (390, 1280):
        found = browser.seen(board, script, width=width, height=3000)
        names = [EVIL, "b", "identity"]
        assert found["down"] == names
        assert found["up"] == names[::-1]
        assert found["missing"][0] == "b"
        assert found["counts"] == [3, 1, 1, 0, 3]
        assert found["page"] <= found["width"] == width
