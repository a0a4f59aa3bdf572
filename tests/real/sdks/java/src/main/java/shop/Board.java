package shop;

import dev.restate.sdk.ObjectContext;
import dev.restate.sdk.SharedObjectContext;
import dev.restate.sdk.annotation.Handler;
import dev.restate.sdk.annotation.Shared;
import dev.restate.sdk.annotation.VirtualObject;
import dev.restate.sdk.common.StateKey;

/** What was pinned there last. */
@VirtualObject
public class Board {
  private static final StateKey<String> ID = StateKey.of("id", String.class);

  @Handler
  public void pin(ObjectContext ctx, String id) {
    ctx.set(ID, id);
  }

  @Shared
  public String read(SharedObjectContext ctx) {
    return ctx.get(ID).orElse("");
  }
}
