"""`corrkit protocols` as a process would see it: words in, text or JSON out, exit codes."""

import json

import pytest

from corrkit.cli import main
from corrkit.protocols import protocol_names
from corrkit.task_table import task_names


def printed(capsys, *words: str) -> str:
    assert main(["protocols", *words]) == 0
    return capsys.readouterr().out


def test_a_list_has_one_line_for_each_protocol(capsys):
    lines = printed(capsys, "davis").splitlines()
    assert len(lines) == len(protocol_names("davis"))
    assert all(line.startswith("davis/") for line in lines)
    assert len(printed(capsys).splitlines()) == sum(len(protocol_names(task)) for task in task_names())


@pytest.mark.parametrize("columns", [80, 200])
def test_lines_end_where_the_terminal_does(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    whole = {}
    for words in (
        ("davis",),
        ("davis/cropmae", "--explain"),
        ("diff", *(f"davis/{n}" for n in protocol_names("davis"))),
    ):
        text = printed(capsys, *words)
        too_long = [line for line in text.splitlines() if len(line) > columns and len(line.split()) > 1]
        assert too_long == []
        whole[words] = " ".join(text.split())
    assert len(printed(capsys, "davis").splitlines()) == len(protocol_names("davis"))
    explained = whole["davis/cropmae", "--explain"]
    assert "whether the spatial window also restricts the long-term frames." in explained
    different = next(text for words, text in whole.items() if words[0] == "diff")
    assert all(f"davis/{name}@1" in different for name in protocol_names("davis"))


@pytest.mark.parametrize("words", [("davis/cropmae",), ("show", "davis/cropmae")])
def test_one_protocol_is_shown_with_its_sources(capsys, words):
    text = printed(capsys, *words)
    assert "affinity.radius = 20.0" in text
    assert "downstreams/propagation/util.py" in text
    assert "reach of the window" not in text


def test_explain_says_what_each_constant_means(capsys):
    assert "reach of the window, in grid cells." in printed(capsys, "show", "davis/cropmae", "--explain")


def test_diff_shows_only_what_differs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    rows = printed(capsys, "diff", "davis/dino", "davis/rsp", "davis/cropmae").splitlines()
    assert rows[0].split() == ["davis/dino@1", "davis/rsp@1", "davis/cropmae@1"]
    assert ["affinity.topk", "5", "7", "7"] in [row.split() for row in rows]
    assert not any("features.l2" in row for row in rows)
    assert "same constants" in printed(capsys, "diff", "davis/dino", "davis/dino")


def test_json_and_bibtex(capsys):
    one = json.loads(printed(capsys, "davis/dino", "--json"))
    assert one["protocol"] == "davis/dino@1"
    assert one["constants"]["affinity.topk"]["value"] == 5
    several = json.loads(printed(capsys, "vip", "--json"))
    assert [p["name"] for p in several] == protocol_names("vip")
    rows = json.loads(printed(capsys, "diff", "davis/dino", "davis/crw", "--json"))
    assert rows["differences"]["affinity.topk"] == [5, 10]
    assert printed(capsys, "davis/dino", "--bibtex").startswith("@inproceedings{caron2021,")


def test_a_file_of_ones_own_is_shown_and_compared(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('task = "davis"\nextends = "dino"\n[affinity]\ntopk = 9\n')
    assert "davis/mine@1+" in printed(capsys, str(path))
    assert printed(capsys, "diff", "davis/dino", str(path)).splitlines()[1].split() == ["affinity.topk", "5", "9"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diff", "davis/dino"], "fewer than two"),
        (["show"], "no request"),
        (["davis", "vip"], "no request"),
        (["davs"], "Did you mean"),
        (["davis/dimo"], "Did you mean 'dino'"),
        (["davis", "--explain"], "belongs to show"),
    ],
)
def test_other_words_are_explained(capsys, words, message):
    assert main(["protocols", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("given", "size"), [("240", "240"), ("224x224", "224, 224")])
def test_resolution_is_short_for_the_size(capsys, tmp_path, given, size):
    words = ["eval", "davis", "--ckpt", "identity", "--clips", "embedded-0", "--json", "--resolution", given]
    kind = ["--set", "resize=exact"] if "x" in given else []
    assert main([*words, *kind, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["modified"]["frames.size"] == [int(side) for side in size.split(", ")]


def test_a_resolution_is_a_number_or_two(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", "davis", "--ckpt", "identity", "--resolution", "big"])
    assert ended.value.code == 2
    assert "neither N nor HEIGHTxWIDTH" in capsys.readouterr().err
