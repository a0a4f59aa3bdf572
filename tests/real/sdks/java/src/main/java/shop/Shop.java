package shop;

import dev.restate.sdk.auth.signing.RestateRequestIdentityVerifier;
import dev.restate.sdk.endpoint.Endpoint;
import dev.restate.sdk.http.vertx.RestateHttpServer;

/** The shop that every SDK serves: a service, two virtual objects, a workflow. */
public final class Shop {
  private Shop() {}

  public static void main(String[] arguments) {
    Endpoint.Builder endpoint =
        Endpoint.bind(new Desk()).bind(new Counter()).bind(new Board()).bind(new Signup());
    String key = System.getenv("IDENTITY_KEY");
    if (key != null) {
      endpoint.withRequestIdentityVerifier(RestateRequestIdentityVerifier.fromKey(key));
    }
    int port = Integer.parseInt(System.getenv("PORT"));
    RestateHttpServer.fromEndpoint(endpoint).listen(port, "127.0.0.1");
  }
}
