"""Documents of constants that somebody else wrote: each reader refuses what would take its time or its stack."""

from pathlib import Path

import pytest

from corrkit.checkpoints.layout_files import read_layout
from corrkit.constants import parse_toml
from corrkit.datasets.sources import read_source
from corrkit.errors import CorrkitError
from corrkit.protocols import load_protocol
from corrkit.training.recipe import load_recipe

HOSTILE = {
    "brackets": ("a=" + "[" * 50_000, "nested too deeply"),
    "tables": ("a=" + "{a=" * 20_000, "nested too deeply"),
    "a dotted name": ("a" + ".a" * 30_000 + "=1", "dots"),
    "dotted names": ("\n".join("a" + ".a" * 199 + f".b{line}=1" for line in range(150)), "nested too deeply"),
    "dotted headers": ("".join(f"[{'.'.join(['a'] * length)}]\n" for length in range(1, 150)), "nested too deeply"),
    "digits": ("a=" + "1" * 60_000, "digits"),
    "length": ("[t]\n" * 100_000, "characters"),
    "marks": ("\ufeffa=1", "Invalid statement"),
}
READERS = {
    "protocol": lambda path: load_protocol(str(path)),
    "recipe": lambda path: load_recipe(str(path)),
    "sources": lambda path: read_source("davis", path),
    "layout": read_layout,
}


@pytest.mark.parametrize(("text", "reason"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_hostile_documents_are_refused_by_name(tmp_path: Path, read, text: str, reason: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CorrkitError, match=rf"mine\.toml.*{reason}"):
        read(path)


def test_what_a_person_writes_is_read():
    assert parse_toml("a = [" + "0.1, " * 150 + "]\n[b.c.d]\ne.f = {g = 1}") == {
        "a": [0.1] * 150,
        "b": {"c": {"d": {"e": {"f": {"g": 1}}}}},
    }
