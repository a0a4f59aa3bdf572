"""`step`: one event in, everything that it changes and causes out.

Lives here: the table event type -> function, and the loop over messages between invocations.
Does not: any rule; each stands in the topic file that the table names.
"""

from collections.abc import Callable
from typing import Any

from restated.core import (
    accept,
    attempts,
    commands,
    control,
    events,
    finish,
    limits,
    notifications,
    registry,
    subscriptions,
)
from restated.core.effects import Reply
from restated.core.events import Event
from restated.core.pieces import MESSAGES_MAX, postpone
from restated.core.view import Step, View
from restated.model.records import JOURNAL_ENTRIES_MAX

OnEvent = Callable[[Step, Any], Reply]  # each function takes exactly the event of its row

HANDLERS: dict[type[Event], OnEvent] = {
    events.Invoke: accept.on_invoke,
    events.Attach: finish.on_attach,
    events.Complete: notifications.on_complete,
    events.Signal: notifications.on_signal,
    events.DeploymentPinned: attempts.on_deployment_pinned,
    events.CommandReceived: commands.on_command,
    events.RunProposed: notifications.on_run_proposed,
    events.AttemptSuspended: attempts.on_suspended,
    events.AttemptFailed: attempts.on_failed,
    events.AttemptEnded: attempts.on_ended,
    events.AttemptYielded: attempts.on_yielded,
    events.TimerFired: notifications.on_timer,
    events.Expired: finish.on_expired,
    events.Cancel: control.on_cancel,
    events.Kill: control.on_kill,
    events.Pause: control.on_pause,
    events.Resume: control.on_resume,
    events.RestartAsNew: control.on_restart_as_new,
    events.Purge: control.on_purge,
    events.PurgeJournal: control.on_purge_journal,
    events.PatchState: control.on_patch_state,
    events.RegisterDeployment: registry.on_register_deployment,
    events.UpdateDeployment: registry.on_update_deployment,
    events.RemoveDeployment: registry.on_remove_deployment,
    events.PatchService: registry.on_patch_service,
    events.CreateKafkaCluster: subscriptions.on_create_cluster,
    events.UpdateKafkaCluster: subscriptions.on_update_cluster,
    events.RemoveKafkaCluster: subscriptions.on_remove_cluster,
    events.CreateSubscription: subscriptions.on_create,
    events.RemoveSubscription: subscriptions.on_remove,
    events.PutLimitRules: limits.on_put,
    events.RemoveLimitRules: limits.on_remove,
}


def step(
    view: View,
    event: Event,
    now_ms: int,
    *,
    observed: bool = False,
    entries_max: int = JOURNAL_ENTRIES_MAX,
) -> tuple[Step, Reply]:
    """Apply one event and the messages it sends.

    Pure: same view, event and time give the same outcome; nothing outside it changes. A message is
    part of its event: a defect in one drops the whole event. What exceeds the bound is stored and
    sent by later events.
    """
    outcome = Step(view, now_ms, observed=observed, entries_max=entries_max)
    reply = HANDLERS[type(event)](outcome, event)
    position = 0
    while position < len(outcome.messages):
        if position == MESSAGES_MAX:
            postpone(outcome, outcome.messages[position:])
            break
        message = outcome.messages[position]
        HANDLERS[type(message)](outcome, message)
        position += 1
    return outcome, reply
