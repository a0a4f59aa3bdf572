package shop;

import dev.restate.common.Output;
import dev.restate.sdk.SharedWorkflowContext;
import dev.restate.sdk.WorkflowContext;
import dev.restate.sdk.annotation.Shared;
import dev.restate.sdk.annotation.Workflow;
import dev.restate.sdk.common.DurablePromiseKey;
import dev.restate.sdk.common.StateKey;

/** Waits for approval. */
@Workflow
public class Signup {
  private static final StateKey<String> STATUS = StateKey.of("status", String.class);
  private static final DurablePromiseKey<String> APPROVED =
      DurablePromiseKey.of("approved", String.class);

  @Workflow
  public String run(WorkflowContext ctx, String name) {
    ctx.set(STATUS, "waiting");
    String value = ctx.promise(APPROVED).future().await();
    ctx.set(STATUS, "done");
    return name + " " + value;
  }

  @Shared
  public void approve(SharedWorkflowContext ctx, String value) {
    ctx.promiseHandle(APPROVED).resolve(value);
  }

  @Shared
  public void decline(SharedWorkflowContext ctx, String reason) {
    ctx.promiseHandle(APPROVED).reject(reason);
  }

  @Shared
  public String peek(SharedWorkflowContext ctx) {
    Output<String> promised = ctx.promise(APPROVED).peek();
    return promised.isReady() ? promised.getValue() : "";
  }

  @Shared
  public String status(SharedWorkflowContext ctx) {
    return ctx.get(STATUS).orElse("");
  }
}
