package shop;

import dev.restate.common.Request;
import dev.restate.common.RequestBuilder;
import dev.restate.common.Target;
import dev.restate.sdk.Awakeable;
import dev.restate.sdk.CallDurableFuture;
import dev.restate.sdk.Context;
import dev.restate.sdk.DurableFuture;
import dev.restate.sdk.Select;
import dev.restate.sdk.annotation.Accept;
import dev.restate.sdk.annotation.Handler;
import dev.restate.sdk.annotation.Raw;
import dev.restate.sdk.annotation.Service;
import dev.restate.sdk.common.RetryPolicy;
import dev.restate.sdk.common.TerminalException;
import dev.restate.serde.TypeTag;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Everything that needs no key. */
@Service
public class Desk {
  private static final Map<String, Integer> ATTEMPTS = new ConcurrentHashMap<>();

  public record Order(String key, long delayMs) {}

  public record Settlement(String id, String value, String reason) {}

  public record KeyedOrder(String key, String id) {}

  @Handler
  public String echo(Context ctx, String text) {
    return text;
  }

  @Handler
  public int steps(Context ctx, int n) {
    int sum = 0;
    for (int i = 1; i <= n; i++) {
      int step = i;
      sum += ctx.run("step " + i, Integer.class, () -> step);
    }
    return sum;
  }

  @Handler
  public String nap(Context ctx, long ms) {
    ctx.sleep(Duration.ofMillis(ms));
    return "woke";
  }

  @Handler
  public String refuse(Context ctx, int code) {
    throw new TerminalException(code, "refused");
  }

  @Handler
  public int flaky(Context ctx, String key) {
    RetryPolicy policy = RetryPolicy.exponential(Duration.ofMillis(50), 2);
    return ctx.run("flaky", Integer.class, policy, () -> third("flaky/" + key));
  }

  @Handler
  public int failing(Context ctx, String key) {
    return third("failing/" + key);
  }

  @Handler
  public String giveup(Context ctx, int attempts) {
    RetryPolicy policy =
        RetryPolicy.exponential(Duration.ofMillis(20), 1).setMaxAttempts(attempts);
    try {
      ctx.run(
          "giveup",
          policy,
          () -> {
            throw new IllegalStateException("never works");
          });
      return "worked";
    } catch (TerminalException error) {
      return "gave up";
    }
  }

  @Handler
  public String relay(Context ctx, String text) {
    Target echo = Target.service("Desk", "echo");
    return call(ctx, echo, TypeTag.of(String.class), text).await() + "!";
  }

  @Handler
  public int fanout(Context ctx, int n) {
    List<CallDurableFuture<Integer>> calls = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      calls.add(add(ctx, "fan-" + i));
    }
    DurableFuture.all(new ArrayList<DurableFuture<?>>(calls)).await();
    return calls.stream().mapToInt(DurableFuture::await).sum();
  }

  @Handler
  public String tell(Context ctx, Order order) {
    return ctx.send(adding(order.key()).build(), Duration.ofMillis(order.delayMs())).invocationId();
  }

  @Handler
  public String ticket(Context ctx, String key) {
    Awakeable<String> awakeable = ctx.awakeable(String.class);
    TypeTag<String> text = TypeTag.of(String.class);
    Target pin = Target.virtualObject("Board", key, "pin");
    ctx.send(Request.of(pin, text, TypeTag.of(Void.class), awakeable.id()).build());
    return awakeable.await();
  }

  @Handler
  public void settle(Context ctx, Settlement one) {
    ctx.awakeableHandle(one.id()).resolve(String.class, one.value());
  }

  @Handler
  public void spurn(Context ctx, Settlement one) {
    ctx.awakeableHandle(one.id()).reject(one.reason());
  }

  @Handler
  public String race(Context ctx, long ms) {
    Target nap = Target.service("Desk", "nap");
    return Select.<String>select()
        .when(call(ctx, nap, TypeTag.of(Long.class), ms), woke -> "nap")
        .when(ctx.timer(Duration.ofMinutes(1)), nothing -> "sleep")
        .await();
  }

  @Handler
  public String guarded(Context ctx, String key) {
    try {
      ctx.sleep(Duration.ofMinutes(10));
      return "slept";
    } catch (TerminalException cancelled) {
      add(ctx, key).await();
      throw cancelled;
    }
  }

  @Handler
  public String caller(Context ctx, String key) {
    Target guarded = Target.service("Desk", "guarded");
    return call(ctx, guarded, TypeTag.of(String.class), key).await();
  }

  @Handler
  public void stop(Context ctx, String id) {
    ctx.invocationHandle(id).cancel();
  }

  @Handler
  public int keyed(Context ctx, KeyedOrder order) {
    return ctx.call(adding(order.key()).idempotencyKey(order.id()).build()).await();
  }

  @Handler
  public String random(Context ctx) {
    String before = ctx.random().nextUUID().toString();
    String stored = ctx.run("random", String.class, () -> before);
    ctx.sleep(Duration.ofMillis(200));
    return before.equals(stored) ? "same" : "other";
  }

  @Handler
  public String headers(Context ctx) {
    return ctx.request().headers().getOrDefault("x-shop", "");
  }

  @Handler
  @Raw
  public byte[] bytes(Context ctx, @Raw @Accept("*/*") byte[] raw) {
    return raw;
  }

  private static int third(String what) {
    int attempt = ATTEMPTS.merge(what, 1, Integer::sum);
    if (attempt < 3) {
      throw new IllegalStateException("attempt " + attempt + " fails");
    }
    return 3;
  }

  private static RequestBuilder<Integer, Integer> adding(String key) {
    TypeTag<Integer> number = TypeTag.of(Integer.class);
    return Request.of(Target.virtualObject("Counter", key, "add"), number, number, 1);
  }

  private static CallDurableFuture<Integer> add(Context ctx, String key) {
    return ctx.call(adding(key).build());
  }

  private static <T> CallDurableFuture<String> call(
      Context ctx, Target target, TypeTag<T> type, T argument) {
    return ctx.call(Request.of(target, type, TypeTag.of(String.class), argument).build());
  }
}
