"""The models that one `aznas gate` judges, and how: each in turn, in a child process that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from aznas_onnx.cli.console import write_traceback
from aznas_onnx.errors import AznasError
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from aznas_onnx.gating import GateFailure, GateResult, PolicySources

__all__ = ["GateOutcome", "GateRun", "decide", "decide_each", "outcomes_of"]

_READING, _LOADING_S = 3, 30.0  # multiples of one reading budget, and the time to load libraries

Tell = Callable[[str], None]
GateOutcome: TypeAlias = "GateResult | GateFailure"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRun:
    """A candidate and its rules.

    - `uses_cache`: Whether scores may come from the user's cache folder.
    """

    candidate: str
    sources: PolicySources
    uses_cache: bool = True


def decide(run: GateRun, tell: Tell) -> GateResult:
    """Decide by the rules of a file and of options; user proxies are executed here."""
    from aznas_onnx.cli.child_process import limit_processor_time
    from aznas_onnx.gating import gate as decide_by
    from aznas_onnx.limits import within

    policy = run.sources.policy()
    files = 1 + len(policy.baseline)

    def watched(stage: str) -> None:
        # Each file has its own reading budget; this limit is for a library that computes without end.
        is_reading = stage == "reading"
        most_s = _LOADING_S + files * _READING * within(policy.time_limit).reading_s
        limit_processor_time(most_s if is_reading else None)
        tell(stage)

    return decide_by(run.candidate, policy, cache=run.uses_cache, on_stage=watched)


def decide_each(runs: Sequence[GateRun], tell: Tell) -> list[GateOutcome]:
    """Decide about several candidates; one without a decision does not stop the others."""
    from aznas_onnx.gating import GateFailure

    found: list[GateOutcome] = []
    for number, run in enumerate(runs, 1):
        try:
            found.append(decide(run, _numbered(tell, number, len(runs))))
        except AznasError as error:
            found.append(GateFailure(candidate=run.candidate, reason=str(error)))
    return found


def _numbered(tell: Tell, number: int, count: int) -> Tell:
    return lambda stage: tell(f"{number} of {count}: {stage}")


def outcomes_of(runs: Sequence[GateRun]) -> list[GateOutcome]:
    """Decide about candidates in a child process.

    Raises AznasError if there is one candidate and no decision about it, and Bug for an error of this package.
    """
    if len(runs) == 1:
        return [_in_child(decide, runs[0])]
    from aznas_onnx.cli.child_process import Bug, EndedError, StoppedError

    try:
        found: list[GateOutcome] = _in_child(decide_each, runs)
        return found
    except StoppedError:  # a signal to this process
        raise
    except (EndedError, AznasError, Bug):  # one of them has ended the process of all
        return [_alone(run) for run in runs]


def _alone(run: GateRun) -> GateOutcome:
    """Decide about a candidate in a process of its own, so that its end leaves the others alone."""
    from aznas_onnx.cli.child_process import Bug, StoppedError
    from aznas_onnx.gating import GateFailure

    try:
        result: GateResult = _in_child(decide, run)
        return result
    except StoppedError:
        raise
    except AznasError as error:
        return GateFailure(candidate=run.candidate, reason=str(error))
    except Bug as error:
        write_traceback(error.trace)
        return GateFailure(candidate=run.candidate, reason=f"internal error ({error}); please report it")


def _in_child(work: Callable[..., Any], what: GateRun | Sequence[GateRun]) -> Any:
    from aznas_onnx.cli.child_process import in_child_process
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.progress import shown_stages
    from aznas_onnx.gating import GateResult, gate  # noqa: F401 - loaded before the process is copied

    console = diagnostics()
    with in_child_process(work, what) as child, shown_stages(console, "reading") as tell:
        return child.result(on_stage=tell, on_line=lambda line: console.print(printable(line)))
