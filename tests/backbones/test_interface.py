"""What a backbone says of itself survives whatever wraps it, field by field."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
import torch
from colour_backbone import ColourBackbone
from torch import Tensor, nn

from corrkit.backbones import wrap
from corrkit.backbones.batches import Batches
from corrkit.backbones.contract import Interface, Mode, Report, interface_of, network_of, on_device, with_position
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.fusion import fuse
from corrkit.backbones.layers import SharedLayer, SharedPass
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.recurrent import Recurrent
from corrkit.backbones.windowed import Windowed
from corrkit.errors import UsageError

FIELDS = [field.name for field in fields(Interface)]
ODD = Interface(
    stride=4,
    multiple=8,
    mean=(50.0, 0.5, 0.25),
    std=(30.0, 2.0, 4.0),
    colour="lab",
    mode=Mode(padding="repeat"),
    report=Report(system="sfc", architecture="odd", parameters=7, layer="2", position="absolute", notes=("a note",)),
    digest="abc",
)


class Tables(Network):
    """Mean colours of cells; layer n adds n; a position rule adds the length of its name."""

    layer, num_layers, position, window = 2, 3, "dino", WindowRule(tubelet=2)

    def still(self, frames: Tensor) -> Tensor:
        return frames[:, :, None]

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        cells = nn.functional.avg_pool3d(pixels, (1, 4, 4)).movedim(1, -1)
        for number in range(1, upto + 1):
            yield cells + number + len(str(self.position))


def odd() -> Framewise:
    return Framewise(Tables(), ODD)


def shared() -> SharedLayer:
    return SharedLayer(odd(), SharedPass(Tables(), Batches()), 2)


# Wrapper to the fields that it changes, which must differ; all others must be those of the backbone within.
WRAPPERS = {
    "itself": (odd, set()),
    "recurrent": (lambda: Recurrent(Tables(), ODD), set()),
    "on a device": (lambda: on_device(odd(), torch.device("cpu")), set()),
    "position rule": (lambda: odd().with_position("size"), set()),
    "protocol's rule": (lambda: with_position(odd(), "size"), set()),
    "windows": (lambda: Windowed(odd(), 4), {"mode", "report", "digest"}),
    "windows under a rule": (lambda: Windowed(odd(), 4).with_position("size"), {"mode", "report", "digest"}),
    "shared layer": (shared, set()),
    "shared layer under a rule": (lambda: shared().with_position("size"), set()),
    "fusion": (lambda: fuse(odd(), odd()), {"report", "digest"}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_of_the_test_has_its_default(name):
    (field,) = (field for field in fields(Interface) if field.name == name)
    assert field.default is MISSING or getattr(ODD, name) != field.default


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_keeps_every_field_that_it_does_not_change(wrapper, name):
    make, changed = WRAPPERS[wrapper]
    assert (getattr(interface_of(make()), name) != getattr(ODD, name)) == (name in changed)


def test_reports_of_wrappers_keep_all_but_what_they_say():
    windowed = Windowed(odd(), 4).report
    assert replace(windowed, notes=ODD.report.notes) == ODD.report
    fused = fuse(odd(), odd()).report
    assert (fused.layer, fused.position) == (ODD.report.layer, ODD.report.position)
    assert fused.parameters == 2 * ODD.report.parameters


@pytest.mark.parametrize("field", ["stride", "mean", "std", "colour", "mode"])
def test_networks_that_see_other_inputs_are_not_fused(field):
    other: dict[str, Any] = {
        "stride": 8,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "colour": "rgb",
        "mode": Mode(),
    }
    with pytest.raises(Exception, match="can't be joined"):
        fuse(odd(), Framewise(Tables(), replace(ODD, **{field: other[field]})))


@pytest.mark.parametrize("wrapper", ["itself", "windows", "shared layer"])
def test_a_position_rule_leaves_the_backbone_as_it_is(wrapper):
    backbone: Any = WRAPPERS[wrapper][0]()
    frames = torch.rand(4, 3, 8, 12)
    before = backbone(frames)
    assert not torch.equal(backbone.with_position("antialias")(frames), before)
    assert torch.equal(backbone(frames), before)
    assert torch.equal(with_position(backbone, "published")(frames), before)


@pytest.mark.parametrize("wrapper", ["itself", "windows", "shared layer", "fusion"])
def test_the_network_within_is_found(wrapper):
    assert isinstance(network_of(WRAPPERS[wrapper][0]()), nn.Module)


class TestBackbonesOfOnesOwn:
    def test_members_that_are_absent_have_defaults(self):
        backbone: Any = ColourBackbone(8)
        del backbone.digest
        said = interface_of(backbone)
        assert (said.stride, said.multiple, said.colour, said.digest) == (8, 8, "rgb", None)
        assert (said.mean, said.std) == (backbone.mean, backbone.std)
        assert on_device(backbone, torch.device("cpu")) is backbone
        assert network_of(backbone) is None

    def test_members_that_are_there_count(self):
        backbone: Any = ColourBackbone(8)
        backbone.multiple, backbone.input_colour, backbone.mean = 1, "grey", [0.5, 0.5, 0.5]
        said = interface_of(backbone)
        assert (said.multiple, said.colour, said.mean, said.digest) == (1, "grey", (0.5, 0.5, 0.5), "colour8")

    def test_a_rule_is_asked_for_only_where_positions_are_absolute(self):
        backbone: Any = ColourBackbone(8)
        backbone.with_position = lambda rule: rule
        found: Any = with_position(backbone, "size")
        assert found is backbone
        backbone.report = replace(backbone.report, position="absolute")
        found = with_position(backbone, "size")
        assert found == "size"
        del backbone.with_position
        found = with_position(backbone, "size")
        assert found is backbone

    @pytest.mark.parametrize(
        ("member", "value", "words"),
        [
            ("stride", 0, "stride 0"),
            ("multiple", 0, "multiple 0"),
            ("input_colour", "Lab", "Did you mean 'lab'"),
            ("std", (0.2, 0.2, 0.0), "std above 0"),
            ("mean", (0.5,), "Three numbers"),
        ],
    )
    def test_members_that_can_not_be_are_named(self, member, value, words):
        backbone: Any = ColourBackbone(8)
        setattr(backbone, member, value)
        with pytest.raises(UsageError, match=words):
            interface_of(backbone)


def test_a_wrapped_module_says_what_it_was_told():
    said = interface_of(wrap(nn.Conv2d(3, 7, 8, 8), stride=8, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)))
    assert (said.stride, said.multiple, said.mean, said.std) == (8, 1, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert said.digest is not None


def test_networks_that_see_single_frames_take_no_windows():
    class Stills(Tables):
        window: Any = None

    with pytest.raises(Exception, match="sees single frames only"):
        Windowed(Framewise(Stills(), ODD), 4)


def test_windows_fit_the_tokens():
    with pytest.raises(Exception, match="tokens span 2 frames"):
        Windowed(odd(), 3)
