package shop;

import dev.restate.sdk.ObjectContext;
import dev.restate.sdk.SharedObjectContext;
import dev.restate.sdk.annotation.Handler;
import dev.restate.sdk.annotation.Shared;
import dev.restate.sdk.annotation.VirtualObject;
import dev.restate.sdk.common.StateKey;
import java.time.Duration;
import java.util.List;

/** A number for each key. */
@VirtualObject
public class Counter {
  private static final StateKey<Integer> N = StateKey.of("n", Integer.class);

  @Handler
  public int add(ObjectContext ctx, int by) {
    int n = ctx.get(N).orElse(0) + by;
    ctx.set(N, n);
    return n;
  }

  @Shared
  public int get(SharedObjectContext ctx) {
    return ctx.get(N).orElse(0);
  }

  @Handler
  public void clear(ObjectContext ctx) {
    ctx.clearAll();
  }

  @Handler
  public List<String> keys(ObjectContext ctx) {
    return ctx.stateKeys().stream().sorted().toList();
  }

  @Handler
  public String hold(ObjectContext ctx, long ms) {
    ctx.sleep(Duration.ofMillis(ms));
    return "held";
  }
}
