"""What `corrkit eval` says on stderr beside its table."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from corrkit.cli.talk import say
from corrkit.documentation import see
from corrkit.errors import CorrkitError
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.backbones.contract import Mode
    from corrkit.evaluation import Result
    from corrkit.predictors.contract import Predictor
    from corrkit.protocols import Protocol


def describe(predictor: "Predictor", protocols: "Sequence[Protocol]") -> list[str]:
    """What was recognised, and how it sees time under the protocols."""
    report = predictor.report
    stride = f", stride {predictor.stride}" if predictor.stride else ""
    tensors = f", {report.tensors_used} of {report.tensors_total} tensors used" if report.tensors_total else ""
    words = [
        f"{predictor.name}: {report.system}, {report.architecture}, {report.parameters:,} parameters{tensors}{stride}, "
        f"layer {report.layer}, {_modes(predictor, protocols)}, on {predictor.device_type}"
    ]
    branch = dict(report.evidence).get("branch", "")
    if "not '" in branch:
        words.append(f"branch {branch}; --ckpt-key takes another one")
    elif "--ckpt-key" in branch:
        words.append(f"branch {branch}")
    return words


def _modes(predictor: "Predictor", protocols: "Sequence[Protocol]") -> str:
    """How it sees time; where that differs from protocol to protocol, under which."""
    of_protocol = {protocol.identifier: _mode_words(predictor.mode_under(protocol)) for protocol in protocols}
    if len(set(of_protocol.values())) == 1:
        return next(iter(of_protocol.values()))
    return ", ".join(f"{words} under {identifier}" for identifier, words in of_protocol.items())


def _mode_words(mode: "Mode") -> str:
    windows = f" ({mode.length} frames every {mode.step})" if mode.kind == "windowed" else ""
    return f"{mode.kind}{windows}{' (sees later frames)' if mode.sees_future else ''}"


def left_to_others(results: "Sequence[Result]") -> bool:
    """Whether other shards have clips to finish before there is a table; says how many."""
    for result in results:
        if result.waiting:
            say(
                f"{len(result.waiting)} clip(s) of {result.folder} are left to other shards; the last one, or this "
                "command without --shard, prints the table."
            )
    return any(result.waiting for result in results)


def not_opened(errors: "Mapping[str, CorrkitError]") -> int:
    """Names the checkpoints of several that can't be evaluated and why; the exit code that they ask for."""
    for spec, error in errors.items():
        say(*f"failed: {one_line(spec)}: {error}".split("\n"))
    return CorrkitError.exit_code if errors else 0


def failures(result: "Result") -> int:
    """Names the clips without a score and why; the exit code that they ask for."""
    for clip, error in result.failures.items():
        say(*f"failed: {one_line(clip)}: {error}".split("\n"))
    return CorrkitError.exit_code if result.failures else 0


def closing_words(result: "Result", origin: str) -> int:
    """Published values beside the result's own, notes, failures, where the run is; the exit code."""
    from corrkit.runs.published import beside_published

    for beside in beside_published(result.summary, origin):
        say(beside.sentence() if beside.is_within else f"{beside.sentence()}; {see('why-is-my-number-lower')}")
    for note in result.notes:
        say(f"note: {note}")
    code = failures(result)
    say(f"run: {result.folder}{_kept(result)}")
    return code


def _kept(result: "Result") -> str:
    """The size of the predictions in the run folder, where there are any."""
    from corrkit.files.reading import files_below

    size = 0
    for path in () if result.folder is None else files_below(result.folder / "predictions"):
        with contextlib.suppress(FileNotFoundError):  # of another process
            size += path.stat().st_size
    words = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    return f" (predictions {words}, none with --no-keep)" if size else ""
