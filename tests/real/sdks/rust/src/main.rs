//! The shop that every SDK serves: a service, two virtual objects, a workflow.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use restate_sdk::context::RequestTarget;
use restate_sdk::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    key: String,
    delay_ms: u64,
}

#[derive(Deserialize)]
struct Settlement {
    id: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct KeyedOrder {
    key: String,
    id: String,
}

/// Attempts in this process, by what is attempted.
static COUNTS: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Default::default);

fn third(what: String) -> Result<u32, HandlerError> {
    let mut counts = COUNTS.lock().expect("nobody panics with it");
    let attempt = counts.entry(what).or_default();
    *attempt += 1;
    if *attempt < 3 {
        return Err(std::io::Error::other(format!("attempt {attempt} fails")).into());
    }
    Ok(3)
}

fn adding<'ctx>(ctx: &impl ContextClient<'ctx>, key: String) -> Request<'ctx, u32, u32> {
    ctx.request(RequestTarget::object("Counter", key, "add"), 1)
}

struct Desk;

#[service]
impl Desk {
    #[handler]
    async fn echo(&self, _ctx: Context<'_>, text: String) -> HandlerResult<String> {
        Ok(text)
    }

    #[handler]
    async fn steps(&self, ctx: Context<'_>, n: u32) -> HandlerResult<u32> {
        let mut sum = 0;
        for i in 1..=n {
            sum += ctx.run(move || async move { Ok(i) }).await?;
        }
        Ok(sum)
    }

    #[handler]
    async fn nap(&self, ctx: Context<'_>, ms: u64) -> HandlerResult<String> {
        ctx.sleep(Duration::from_millis(ms)).await?;
        Ok("woke".into())
    }

    #[handler]
    async fn refuse(&self, _ctx: Context<'_>, code: u16) -> HandlerResult<String> {
        Err(TerminalError::new_with_code(code, "refused").into())
    }

    #[handler]
    async fn flaky(&self, ctx: Context<'_>, key: String) -> HandlerResult<u32> {
        let policy = RunRetryPolicy::new().initial_delay(Duration::from_millis(50));
        let step = ctx.run(move || async move { third(format!("flaky/{key}")) });
        Ok(step.retry_policy(policy).await?)
    }

    #[handler]
    async fn failing(&self, _ctx: Context<'_>, key: String) -> HandlerResult<u32> {
        third(format!("failing/{key}"))
    }

    #[handler]
    async fn giveup(&self, ctx: Context<'_>, attempts: u32) -> HandlerResult<String> {
        let policy = RunRetryPolicy::new()
            .initial_delay(Duration::from_millis(20))
            .max_attempts(attempts);
        let step = ctx.run(|| async { Err::<(), _>(std::io::Error::other("never works").into()) });
        Ok(match step.retry_policy(policy).await {
            Ok(()) => "worked".into(),
            Err(_) => "gave up".into(),
        })
    }

    #[handler]
    async fn relay(&self, ctx: Context<'_>, text: String) -> HandlerResult<String> {
        let answer: String = ctx
            .request(RequestTarget::service("Desk", "echo"), text)
            .call()
            .await?;
        Ok(answer + "!")
    }

    #[handler]
    async fn fanout(&self, ctx: Context<'_>, n: u32) -> HandlerResult<u32> {
        let mut calls: DurableFuturesUnordered<_> = (0..n)
            .map(|i| adding(&ctx, format!("fan-{i}")).call())
            .collect();
        let mut sum = 0;
        while let Some((_, answer)) = calls.next().await? {
            sum += answer?;
        }
        Ok(sum)
    }

    #[handler]
    async fn tell(&self, ctx: Context<'_>, order: Json<Order>) -> HandlerResult<String> {
        let Json(Order { key, delay_ms }) = order;
        let sent = adding(&ctx, key).send_after(Duration::from_millis(delay_ms));
        Ok(sent.await?.invocation_id().into())
    }

    #[handler]
    async fn ticket(&self, ctx: Context<'_>, key: String) -> HandlerResult<String> {
        let (id, awakeable) = ctx.awakeable::<String>();
        ctx.request::<_, ()>(RequestTarget::object("Board", key, "pin"), id)
            .send();
        Ok(awakeable.await?)
    }

    #[handler]
    async fn settle(&self, ctx: Context<'_>, one: Json<Settlement>) -> HandlerResult<()> {
        ctx.resolve_awakeable(&one.0.id, one.0.value);
        Ok(())
    }

    #[handler]
    async fn spurn(&self, ctx: Context<'_>, one: Json<Settlement>) -> HandlerResult<()> {
        ctx.reject_awakeable(&one.0.id, TerminalError::new(one.0.reason));
        Ok(())
    }

    #[handler]
    async fn race(&self, ctx: Context<'_>, ms: u64) -> HandlerResult<String> {
        let call = ctx
            .request::<_, String>(RequestTarget::service("Desk", "nap"), ms)
            .call();
        let sleep = ctx.sleep(Duration::from_secs(60));
        let first = restate_sdk::select! {
            _ = call => { "nap" },
            _ = sleep => { "sleep" }
        };
        Ok(first.into())
    }

    #[handler]
    async fn guarded(&self, ctx: Context<'_>, key: String) -> HandlerResult<String> {
        if let Err(cancelled) = ctx.sleep(Duration::from_secs(600)).await {
            adding(&ctx, key).call().await?;
            return Err(cancelled.into());
        }
        Ok("slept".into())
    }

    #[handler]
    async fn caller(&self, ctx: Context<'_>, key: String) -> HandlerResult<String> {
        let target = RequestTarget::service("Desk", "guarded");
        Ok(ctx.request(target, key).call().await?)
    }

    #[handler]
    async fn stop(&self, ctx: Context<'_>, id: String) -> HandlerResult<()> {
        ctx.invocation_handle(id).cancel();
        Ok(())
    }

    #[handler]
    async fn keyed(&self, ctx: Context<'_>, order: Json<KeyedOrder>) -> HandlerResult<u32> {
        let Json(KeyedOrder { key, id }) = order;
        Ok(adding(&ctx, key).idempotency_key(id).call().await?)
    }

    #[handler]
    async fn random(&self, mut ctx: Context<'_>) -> HandlerResult<String> {
        let before = ctx.rand_uuid().to_string();
        let kept = before.clone();
        let stored: String = ctx.run(move || async move { Ok(kept) }).await?;
        ctx.sleep(Duration::from_millis(200)).await?;
        Ok(if before == stored { "same" } else { "other" }.into())
    }

    #[handler]
    async fn headers(&self, ctx: Context<'_>) -> HandlerResult<String> {
        Ok(ctx.headers().get("x-shop").cloned().unwrap_or_default())
    }

    #[handler]
    async fn bytes(&self, _ctx: Context<'_>, raw: Vec<u8>) -> HandlerResult<Vec<u8>> {
        Ok(raw)
    }
}

struct Counter;

#[object]
impl Counter {
    #[handler]
    async fn add(&self, ctx: ObjectContext<'_>, by: u32) -> HandlerResult<u32> {
        let n = ctx.get::<u32>("n").await?.unwrap_or(0) + by;
        ctx.set("n", n);
        Ok(n)
    }

    #[handler]
    async fn get(&self, ctx: SharedObjectContext<'_>) -> HandlerResult<u32> {
        Ok(ctx.get("n").await?.unwrap_or(0))
    }

    #[handler]
    async fn clear(&self, ctx: ObjectContext<'_>) -> HandlerResult<()> {
        ctx.clear_all();
        Ok(())
    }

    #[handler]
    async fn keys(&self, ctx: ObjectContext<'_>) -> HandlerResult<Json<Vec<String>>> {
        let mut names = ctx.get_keys().await?;
        names.sort();
        Ok(Json(names))
    }

    #[handler]
    async fn hold(&self, ctx: ObjectContext<'_>, ms: u64) -> HandlerResult<String> {
        ctx.sleep(Duration::from_millis(ms)).await?;
        Ok("held".into())
    }
}

struct Board;

#[object]
impl Board {
    #[handler]
    async fn pin(&self, ctx: ObjectContext<'_>, id: String) -> HandlerResult<()> {
        ctx.set("id", id);
        Ok(())
    }

    #[handler]
    async fn read(&self, ctx: SharedObjectContext<'_>) -> HandlerResult<String> {
        Ok(ctx.get("id").await?.unwrap_or_default())
    }
}

struct Signup;

#[workflow]
impl Signup {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, name: String) -> HandlerResult<String> {
        ctx.set("status", "waiting".to_string());
        let value: String = ctx.promise("approved").await?;
        ctx.set("status", "done".to_string());
        Ok(format!("{name} {value}"))
    }

    #[handler]
    async fn approve(&self, ctx: SharedWorkflowContext<'_>, value: String) -> HandlerResult<()> {
        ctx.resolve_promise("approved", value);
        Ok(())
    }

    #[handler]
    async fn decline(&self, ctx: SharedWorkflowContext<'_>, reason: String) -> HandlerResult<()> {
        ctx.reject_promise("approved", TerminalError::new(reason));
        Ok(())
    }

    #[handler]
    async fn peek(&self, ctx: SharedWorkflowContext<'_>) -> HandlerResult<String> {
        Ok(ctx.peek_promise("approved").await?.unwrap_or_default())
    }

    #[handler]
    async fn status(&self, ctx: SharedWorkflowContext<'_>) -> HandlerResult<String> {
        Ok(ctx.get("status").await?.unwrap_or_default())
    }
}

#[tokio::main]
async fn main() {
    let mut endpoint = Endpoint::builder()
        .bind(Desk)
        .bind(Counter)
        .bind(Board)
        .bind(Signup);
    if let Ok(key) = std::env::var("IDENTITY_KEY") {
        endpoint = endpoint.identity_key(&key).expect("a public key");
    }
    let port: u16 = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .expect("PORT is a number");
    HttpServer::new(endpoint.build())
        .listen_and_serve(([127, 0, 0, 1], port).into())
        .await;
}
