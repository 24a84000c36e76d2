"""One pass under several protocols against a run for each: time, and that every number is the same.

CPU time of the first clip of --data (embedded clips without) for a ViT-S/16 with random weights, pass over the sum of
single runs, taken alternately; the least of the rounds counts. Protocols of part "same" show the network the same
frames, those of part "other" do not.
"""

from collections.abc import Iterator
from types import MappingProxyType

import torch
from measuring import Bar, Row, Settings, least

from corrkit.evaluation import Result, evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol, override
from corrkit.subject import open_subject

PROTOCOLS = MappingProxyType({"same": ("cropmae", "catmae", "siammae"), "other": ("dino", "cropmae", "vjepa2.1")})
BAR = Bar(relation="<=", must=0.75, aim=0.6)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """A pass over the sum of its single runs."""
    torch.set_num_threads(1)
    predictor = make_predictor("random:vit_small_patch16_224", device=settings.device)
    subject = open_subject("davis", data=settings.data)
    subject = open_subject("davis", data=settings.data, clips=[subject.clips[0].name])
    protocols = [load_protocol(name, "davis") for name in PROTOCOLS[part]]
    if settings.quick:
        protocols = [override(protocol, {"size": [128]}) for protocol in protocols]
    lanes = [(predictor, protocol) for protocol in protocols]
    results: dict[str, list[Result]] = {}

    def together() -> None:
        results["together"] = evaluate_together(subject, lanes, outs=[None] * len(lanes))

    def singly() -> None:
        results["singly"] = [evaluate_together(subject, [lane], outs=[None])[0] for lane in lanes]

    times = least({"together": together, "singly": singly}, 1 if settings.quick else 2, settings.device)
    for own, shared in zip(results["singly"], results["together"], strict=True):
        assert own.summary == shared.summary, "a number of the pass is not that of its own run"
    said = f"pass under {', '.join(PROTOCOLS[part])} over the sum of single runs"
    yield Row(what=said, value=times["together"] / times["singly"], bar=BAR if part == "same" else None)
