"""A predictor whose predictions are the truth, changed by a rule of the test's own."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from corrkit.backbones.contract import Report
from corrkit.predictors.contract import Predictor

Rule = Callable[[int, Any], Any]
"""From a frame's number and truth to its prediction."""


class Scripted(Predictor):
    """Predicts what the rule says."""

    report = Report(system="scripted", architecture="none", parameters=0)

    def __init__(self, name: str, rule: Rule = lambda _, truth: truth) -> None:
        self.name, self.digest, self._rule = name, f"scripted {name}", rule

    def predict(self, clip: Any, task: Any, protocol: Any) -> Generator[Any, None, Sequence[tuple[str, str]]]:
        for index in range(len(clip.frames)):
            yield self._rule(index, clip.annotation(index).copy())
        return ()
