"""A handler issued a command: what is stored, what is answered at once."""

from restated.core.effects import AckCommand, Ignored, PushNotification, StartAttempt
from restated.core.events import Invoke, RunProposed, Signal
from restated.model.records import Completion, Failure, Promise, PromiseWaiter, StateValue, Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import invoke, object_target, workflow_target
from tests.core.world import StepWorld


def pushed(world: StepWorld) -> list[tuple[int, int, pb.NotificationMessage]]:
    """(journal index, type, message) of every notification that the newest event forwarded."""
    return [
        (effect.index, effect.type, pb.NotificationMessage.FromString(effect.payload))
        for effect in world.effects
        if isinstance(effect, PushNotification) and effect.payload is not None
    ]


def child_of(world: StepWorld, parent: str, child: str, completion_id: int | None) -> Invoke:
    """The invocation that a Call (or, without completion id, a OneWayCall) command carries."""
    row = world.row(parent)
    return invoke(
        child,
        source="service",
        caller=row.number,
        caller_id=parent,
        caller_completion_id=completion_id,
    )


def call(world: StepWorld, parent: str, child: str) -> None:
    """A Call command with completion ids 1 (invocation id) and 2 (result)."""
    body = pb.CallCommandMessage(
        service_name="Greeter",
        handler_name="greet",
        invocation_id_notification_idx=1,
        result_completion_id=2,
    )
    request = child_of(world, parent, child, 2)
    world.command(parent, messages.CALL_COMMAND, body, child=request)


def test_command_takes_the_next_journal_index_and_resets_the_failure_count(
    world: StepWorld,
) -> None:
    """B4; service-protocol.md 4.1: failures since the last new command."""
    first = world.invoke()
    world.fail(first)
    world.advance(60_000)
    assert world.row(first).failures_since_command == 1
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    assert world.journal(first) == ["Command: Input", "Command: Run"]
    assert world.row(first).failures_since_command == 0
    assert world.row(first).policy_attempts == 1


def test_an_attempt_that_comes_further_leaves_the_failure_before_it_behind(
    world: StepWorld,
) -> None:
    """sql.md `last_failure`: a new command or the result of a run clears it, as at the reference
    [seen]; what others cause does not.
    """
    first = world.invoke()
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    world.fail(first)
    world.advance(60_000)
    world.apply(Signal(first, "s17", b"1"))
    assert world.row(first).last_failure is not None
    world.apply(RunProposed(1, 2, 1, b"1"))
    assert world.row(first).last_failure is None
    world.fail(first)
    world.advance(60_000)
    assert world.row(first).last_failure is not None
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=2))
    assert world.row(first).last_failure is None


def test_ack_is_sent_only_when_asked_for_and_counts_commands(world: StepWorld) -> None:
    """service-protocol.md 4.2."""
    first = world.invoke(object_target())
    body = pb.SetStateCommandMessage(key=b"n", value=pb.Value(content=b"1"))
    world.command(first, messages.SET_STATE_COMMAND, body)
    assert world.effects == []
    world.command(first, messages.SET_STATE_COMMAND, body, ack=True)
    assert world.effects == [AckCommand(1, 1, 2)]


def test_command_of_a_stale_attempt_changes_nothing(world: StepWorld) -> None:
    """B3, C11."""
    first = world.invoke()
    world.fail(first)
    before = world.rows()
    body = pb.RunCommandMessage(result_completion_id=1)
    assert world.command(first, messages.RUN_COMMAND, body) == Ignored("stale attempt")
    world.advance(60_000)
    assert world.row(first).attempt == 2
    assert world.command(first, messages.RUN_COMMAND, body, attempt=1) == Ignored("stale attempt")
    assert len(before) == len(world.rows()) + 1  # only the retry timer is gone


def test_state_is_written_with_its_command_and_read_back(world: StepWorld) -> None:
    """K5; service-protocol.md 4.3: visible when stored."""
    first = world.invoke(object_target())
    for name in (b"b", b"a"):
        body = pb.SetStateCommandMessage(key=name, value=pb.Value(content=name * 2))
        world.command(first, messages.SET_STATE_COMMAND, body)
    read = pb.GetLazyStateCommandMessage(key=b"a", result_completion_id=1)
    world.command(first, messages.GET_LAZY_STATE_COMMAND, read)
    [(index, code, answer)] = pushed(world)
    assert (index, code) == (4, messages.GET_LAZY_STATE_COMPLETION)
    assert (answer.completion_id, answer.value.content) == (1, b"aa")
    keys = pb.GetLazyStateKeysCommandMessage(result_completion_id=2)
    world.command(first, messages.GET_LAZY_STATE_KEYS_COMMAND, keys)
    assert list(pushed(world)[0][2].state_keys.keys) == [b"a", b"b"]


def test_cleared_state_reads_as_void(world: StepWorld) -> None:
    """service-protocol.md 3.4."""
    first = world.invoke(object_target())
    body = pb.SetStateCommandMessage(key=b"a", value=pb.Value(content=b"1"))
    world.command(first, messages.SET_STATE_COMMAND, body)
    world.command(first, messages.CLEAR_STATE_COMMAND, pb.ClearStateCommandMessage(key=b"a"))
    read = pb.GetLazyStateCommandMessage(key=b"a", result_completion_id=1)
    world.command(first, messages.GET_LAZY_STATE_COMMAND, read)
    assert pushed(world)[0][2].HasField("void")
    world.command(first, messages.SET_STATE_COMMAND, body)
    world.command(first, messages.CLEAR_ALL_STATE_COMMAND, pb.ClearAllStateCommandMessage())
    assert list(world.store.scan(StateValue)) == []


def test_run_proposal_becomes_the_completion_once(world: StepWorld) -> None:
    """B6; a proposal for an unknown run, or a second one, is not stored."""
    first = world.invoke()
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    assert world.apply(RunProposed(1, 1, 9, b"1")) == Ignored("no such open run")
    world.apply(RunProposed(1, 1, 1, Failure(500, "no")))
    [(index, code, answer)] = pushed(world)
    assert (index, code, answer.failure.message) == (2, messages.RUN_COMPLETION, "no")
    assert world.apply(RunProposed(1, 1, 1, b"2")) == Ignored("no such open run")
    assert world.journal(first) == ["Command: Input", "Command: Run", "Notification: Run"]


def test_sleep_ends_at_its_stored_deadline(world: StepWorld) -> None:
    """T1, T3."""
    first = world.invoke()
    body = pb.SleepCommandMessage(wake_up_time=world.now_ms + 50, result_completion_id=1)
    world.command(first, messages.SLEEP_COMMAND, body)
    world.advance(49)
    assert world.journal(first)[-1] == "Command: Sleep"
    world.advance(1)
    assert world.journal(first)[-1] == "Notification: Sleep"
    assert list(world.store.scan(Timer)) == []


def test_sleep_until_the_largest_time_is_kept(world: StepWorld) -> None:
    """C58: 2^64-1 ms does not crash."""
    first = world.invoke()
    body = pb.SleepCommandMessage(wake_up_time=2**64 - 1, result_completion_id=1)
    world.command(first, messages.SLEEP_COMMAND, body)
    assert [timer.at_ms for timer in world.store.scan(Timer)] == [2**63 - 1]


def test_call_tells_the_callee_id_and_starts_it_in_the_same_transaction(
    world: StepWorld,
) -> None:
    """state-machine.md 5."""
    parent = world.invoke()
    call(world, parent, "inv_child")
    [(_, code, answer)] = pushed(world)
    assert (code, answer.invocation_id) == (messages.CALL_INVOCATION_ID_COMPLETION, "inv_child")
    assert world.started() == [("inv_child", 1)]
    world.output("inv_child", b"7")
    [(_, code, answer)] = pushed(world)
    assert (code, answer.completion_id, answer.value.content) == (
        messages.CALL_COMPLETION, 2, b"7",
    )  # fmt: skip


def test_call_of_a_completed_identity_gets_the_stored_result(world: StepWorld) -> None:
    """service-protocol.md 4.9."""
    world.invoke(id="inv_child")
    world.output("inv_child", b"7")
    parent = world.invoke()
    call(world, parent, "inv_child")
    assert pushed(world)[-1][2].value.content == b"7"
    assert not any(isinstance(effect, StartAttempt) for effect in world.effects)


def test_call_of_a_running_workflow_run_fails_with_409(world: StepWorld) -> None:
    """service-protocol.md 4.9."""
    world.invoke(workflow_target(), id="inv_w")
    parent = world.invoke()
    body = pb.CallCommandMessage(invocation_id_notification_idx=1, result_completion_id=2)
    request = invoke(
        "inv_w", workflow_target(), source="service", caller=world.row(parent).number,
        caller_completion_id=2,
    )  # fmt: skip
    world.command(parent, messages.CALL_COMMAND, body, child=request)
    assert pushed(world)[-1][2].failure.code == 409


def test_one_way_call_is_not_waited_for(world: StepWorld) -> None:
    """X2: a detached send is not a child that answers."""
    parent = world.invoke()
    body = pb.OneWayCallCommandMessage(invocation_id_notification_idx=1)
    request = child_of(world, parent, "inv_child", None)
    world.command(parent, messages.ONE_WAY_CALL_COMMAND, body, child=request)
    before = world.journal(parent)
    world.output("inv_child")
    assert world.journal(parent) == before


def test_promise_settled_before_and_after_the_wait_is_the_same(world: StepWorld) -> None:
    """P1, P2, P3: first settler wins, the second is told."""
    run = world.invoke(workflow_target())
    early = pb.GetPromiseCommandMessage(key="p", result_completion_id=1)
    world.command(run, messages.GET_PROMISE_COMMAND, early)
    assert pushed(world) == []
    other = world.invoke(workflow_target(handler="tell"))
    settle = pb.CompletePromiseCommandMessage(
        key="p", completion_value=pb.Value(content=b"1"), result_completion_id=1
    )
    world.command(other, messages.COMPLETE_PROMISE_COMMAND, settle)
    assert [answer.value.content for _, _, answer in pushed(world)] == [b"", b"1"]
    late = pb.GetPromiseCommandMessage(key="p", result_completion_id=2)
    world.command(run, messages.GET_PROMISE_COMMAND, late)
    assert pushed(world)[0][2].value.content == b"1"
    again = pb.CompletePromiseCommandMessage(
        key="p", completion_value=pb.Value(content=b"2"), result_completion_id=2
    )
    world.command(other, messages.COMPLETE_PROMISE_COMMAND, again)
    assert pushed(world)[0][2].failure.message == "promise was already completed"
    assert [row.value for row in world.store.scan(Promise)] == [b"1"]
    assert list(world.store.scan(PromiseWaiter)) == []


def test_peek_of_an_open_promise_is_void(world: StepWorld) -> None:
    """service-protocol.md 3.4."""
    run = world.invoke(workflow_target())
    peek = pb.PeekPromiseCommandMessage(key="p", result_completion_id=1)
    world.command(run, messages.PEEK_PROMISE_COMMAND, peek)
    assert pushed(world)[0][2].HasField("void")


def test_attach_and_output_of_another_invocation(world: StepWorld) -> None:
    """state-machine.md 3: unknown 404, running waits or is void, completed at once."""
    target = world.invoke()
    asker = world.invoke()

    def ask(code: int, completion_id: int, peer: str) -> list[pb.NotificationMessage]:
        kind = (
            pb.AttachInvocationCommandMessage
            if code == messages.ATTACH_INVOCATION_COMMAND
            else pb.GetInvocationOutputCommandMessage
        )
        body = kind(invocation_id=peer, result_completion_id=completion_id)
        world.command(asker, code, body, peer=peer)
        return [answer for _, _, answer in pushed(world)]

    assert ask(messages.ATTACH_INVOCATION_COMMAND, 1, "inv_x")[0].failure.code == 404
    assert ask(messages.GET_INVOCATION_OUTPUT_COMMAND, 2, target)[0].HasField("void")
    assert ask(messages.ATTACH_INVOCATION_COMMAND, 3, target) == []
    world.output(target, b"1")
    assert [answer.value.content for _, _, answer in pushed(world)] == [b"1"]
    assert ask(messages.GET_INVOCATION_OUTPUT_COMMAND, 4, target)[0].value.content == b"1"
    completions = list(world.store.scan(Completion, world.row(asker).number))
    assert [row.polarity for row in completions] == ["failure", "success", "success", "success"]
