"""The table of published heads, and what is said where it tells nothing."""

from types import SimpleNamespace

import pytest

from corrkit.backbones.heads import UnknownHeadsError, assumption, choose_heads
from corrkit.checkpoints.published_heads import PUBLISHED
from corrkit.checkpoints.registry import SYSTEMS
from corrkit.errors import CheckpointError


def of_file(stored=None):
    """A recognised file as far as heads are concerned."""
    return SimpleNamespace(
        path="a.pth", system=SimpleNamespace(name="vit", heads=None), stored_heads=lambda dim: stored
    )


def test_every_row_divides_its_width_and_has_a_source():
    for row in PUBLISHED:
        assert row.width % row.heads == 0
        assert row.source
    places = [(row.width, row.depth, row.family) for row in PUBLISHED]
    assert len(set(places)) == len(places)


def test_systems_name_families_of_the_table():
    named = [getattr(system.rules, "heads", "") for system in SYSTEMS.values()]
    assert {family for family in named if isinstance(family, str)} <= {row.family for row in PUBLISHED}


@pytest.mark.parametrize(
    ("system", "size", "heads"),
    [
        ("open_clip", (1280, 32), 16),
        ("open_clip", (1408, 40), 16),
        ("open_clip", (1664, 48), 16),
        ("hf_siglip", (1152, 27), 16),
        ("hf_siglip", (1536, 40), 16),
        ("tips", (1152, 27), 16),
        ("tips", (1536, 40), 24),
        ("dinov2", (1536, 40), 24),
        ("dinov3", (1280, 32), 20),
        ("vjepa2", (1408, 40), 22),
        ("vjepa", (1408, 40), 16),
        ("vjepa2_1", (1664, 48), 26),
        ("aimv2", (1024, 24), 8),
        ("pe_core", (1536, 50), 16),
    ],
)
def test_published_sizes_have_their_heads(system: str, size: tuple[int, int], heads: int) -> None:
    rules = SYSTEMS[system].rules
    chosen, why = choose_heads(of_file(), *size, None, rules.heads, getattr(rules, "head_width", 64))
    assert chosen == heads
    assert assumption(chosen, why) == ()


def test_sizes_outside_the_table_carry_a_note():
    heads, why = choose_heads(of_file(), 448, 9, None)
    assert heads == 7
    assert "448 / 64" in why
    assert "assumed" in assumption(heads, why)[0]


def test_a_size_that_published_models_have_with_different_heads_is_asked_about():
    with pytest.raises(UnknownHeadsError, match=r"24 \(facebookresearch/dinov2[\s\S]* or 16 [\s\S]*--heads N"):
        choose_heads(of_file(), 1536, 40, None)


def test_stored_heads_must_divide_the_width():
    with pytest.raises(CheckpointError, match=r"5 heads \(config\) don't divide the width 384"):
        choose_heads(of_file((5, "config")), 384, 12, None)
