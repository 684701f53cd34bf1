"""A whole training: steps, validation, saved states and what they report, for a node or a command line to drive."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from .batches import EncodedClip
from .state import Curve, load_state, save_state
from .trainer import StepReport, Trainer

RECENT = 10  # steps whose time tells how long the rest will take


@dataclass
class Run:
    """Drives a trainer to its last step.

    state: the folder of its states. identity: what must be the same to go on from one (state.py).
    save_every, validate_every: in steps; 0 never, but the last step is always saved, and validated if there are clips.
    validation_clips: for the fixed-noise loss; empty: none is measured.
    """

    trainer: Trainer
    state: Path
    identity: Mapping[str, object]
    save_every: int = 100
    validate_every: int = 50
    validation_clips: Sequence[EncodedClip] = ()
    reports: list[StepReport] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)

    def resume(self) -> int:
        """Go on from the newest state, if there is one; returns the steps done. Raises ValueError as `load_state`."""
        curve = load_state(self.state, self.trainer, self.identity)
        if curve:
            self.reports, self.validation = list(curve.reports), list(curve.validation)
        return self.trainer.step

    def steps(self) -> Iterator[StepReport]:
        """Train, one step for each report that is taken.

        To stop, take no more and call `save`; an exception out of a step (a Cancel) leaves the step before, which
        `save` keeps too.
        """
        if not self.validation:
            self._validate()
        while self.trainer.step < self.trainer.settings.steps:
            report = self.trainer.train_step()
            self.reports.append(report)
            last = report.step == self.trainer.settings.steps
            if last or _due(report.step, self.validate_every):
                self._validate()
            if last or _due(report.step, self.save_every):
                self.save()
                self.trainer.engine.wait()  # so that no process is steps ahead when another cannot write
            yield report

    def save(self) -> None:
        """Write a state now; of several processes the first one does."""
        if self.trainer.engine.rank == 0:
            save_state(self.state, self.trainer, self.identity, self.curve)

    def line(self) -> str:
        """How far the run is, what it loses, and how long it will take at the speed of its last steps."""
        report, steps = self.reports[-1], self.trainer.settings.steps
        recent = [report.seconds for report in self.reports[-RECENT:]]
        left = timedelta(seconds=round((steps - report.step) * sum(recent) / len(recent)))
        line = f"step {report.step} of {steps}  loss {report.loss:.4f}  {report.seconds:.2f} s/step  {left} left"
        if self.validation and self.validation[-1][0] == report.step:
            line += f"  fixed-noise loss {self.validation[-1][1]:.4f}"
        return line

    @property
    def curve(self) -> Curve:
        return Curve(tuple(self.reports), tuple(self.validation))

    def _validate(self) -> None:
        if self.validation_clips and self.trainer.engine.rank == 0:
            self.validation.append((self.trainer.step, self.trainer.validation_loss(self.validation_clips)))


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
