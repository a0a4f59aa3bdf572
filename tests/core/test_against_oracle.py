"""The core against the reference model, over random programs.

Profiles: `ci` by default, `HYPOTHESIS_PROFILE=nightly` for fifty times as many programs. A failure
prints its seed (`ORACLE_SEED=...` repeats the run) and Hypothesis's blob of the smallest program.
"""

import os
import random
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from restated.protocol import messages
from tests.core.programs import Program

EVENTS_PER_PROGRAM = 50
PROGRAMS_PER_SEED = 150
SEEDS = range(1, 9)  # what a seed draws changes with the sources that Hypothesis reads
PLAIN = settings(
    stateful_step_count=EVENTS_PER_PROGRAM,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

COMMANDS = {
    row.full_name
    for row in messages.MESSAGES
    if row.kind == "command" and row.code != messages.INPUT_COMMAND
}
EVENTS = {
    "Invoke", "Invoke delayed", "Invoke known", "DeploymentPinned", "RunProposed",
    "AttemptSuspended", "AttemptSuspended, suspended", "AttemptSuspended, paused",
    "AttemptFailed retry", "AttemptFailed pause", "AttemptFailed fail",
    "AttemptFailed, invoked", "AttemptFailed, paused", "AttemptFailed, completed",
    "AttemptYielded", "AttemptEnded, completed", "TimerFired start", "TimerFired sleep",
    "TimerFired retry", "Expired", "Cancel", "Kill", "Pause", "Resume", "RestartAsNew",
    "RestartAsNew with prefix", "Purge", "PurgeJournal", "PatchState",
    "Signal s1", "Signal s2", "Signal s17", "Signal n:a",
}  # fmt: skip
REFUSALS = {
    "refused INVOCATION_NOT_FOUND", "refused INVOCATION_COMPLETED", "refused IDENTITY_TAKEN",
    "refused INVOCATION_NOT_COMPLETED", "refused PAUSE_NOT_RUNNING", "refused RESUME_RUNNING",
    "refused RESUME_NOT_STARTED", "refused RESUME_COMPLETED", "refused RESTART_NOT_STARTED",
    "refused RESTART_RUNNING", "refused RESTART_NO_INPUT", "refused RESTART_UNSUPPORTED",
    "refused RESTART_PREFIX", "refused WORKFLOW_ALREADY_INVOKED",
}  # fmt: skip
STALE = {
    f"ignored {name}"
    for name in (
        "CommandReceived", "RunProposed", "AttemptSuspended", "AttemptFailed", "AttemptYielded",
        "AttemptEnded", "DeploymentPinned", "TimerFired", "Expired", "Signal",
    )
}  # fmt: skip


@pytest.mark.slow
def test_core_and_oracle_agree_on_random_programs() -> None:
    """M-invariants of reliability.md 3, and its S-invariants after every event."""
    chosen = int(os.environ.get("ORACLE_SEED", "0")) or random.getrandbits(32)
    print(f"ORACLE_SEED={chosen}")

    @seed(chosen)
    class Seeded(Program):
        kinds: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(
        Seeded, settings=settings(PLAIN, max_examples=settings().max_examples)
    )


@pytest.mark.slow
def test_every_kind_of_operation_succeeds_in_random_programs() -> None:
    """style.md 10: a random run counts only when every operation kind succeeded at least once."""
    missing = COMMANDS | EVENTS | REFUSALS | STALE
    for fixed in SEEDS:

        @seed(fixed)
        class Fixed(Program):
            kinds: ClassVar[Counter[str]] = Counter()

        run_state_machine_as_test(
            Fixed,
            settings=settings(
                PLAIN, max_examples=PROGRAMS_PER_SEED, database=None, phases=[Phase.generate]
            ),
        )
        missing -= set(Fixed.kinds)
        if not missing:
            break
    assert sorted(missing) == []
