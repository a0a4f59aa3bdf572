// The shop that every SDK serves: a service, two virtual objects, a workflow.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"sync"
	"time"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/encoding"
	"github.com/restatedev/sdk-go/server"
)

type order struct {
	Key     string `json:"key"`
	DelayMs int    `json:"delayMs"`
}

type settlement struct {
	ID     string `json:"id"`
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

type keyedOrder struct {
	Key string `json:"key"`
	ID  string `json:"id"`
}

// counts of attempts in this process, by what is attempted.
var (
	countsLock sync.Mutex
	counts     = map[string]int{}
)

func count(what string) int {
	countsLock.Lock()
	defer countsLock.Unlock()
	counts[what]++
	return counts[what]
}

func millis(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

func add(ctx restate.Context, key string, options ...restate.RequestOption) (int, error) {
	return restate.Object[int](ctx, "Counter", key, "add").Request(1, options...)
}

func desk() restate.ServiceDefinition {
	service := restate.NewService("Desk")
	service.Handler("echo", restate.NewServiceHandler(func(ctx restate.Context, text string) (string, error) {
		return text, nil
	}))
	service.Handler("steps", restate.NewServiceHandler(steps))
	service.Handler("nap", restate.NewServiceHandler(nap))
	service.Handler("refuse", restate.NewServiceHandler(func(ctx restate.Context, code int) (string, error) {
		return "", restate.ToTerminalError(errors.New("refused"), restate.WithErrorCode(restate.Code(code)))
	}))
	service.Handler("flaky", restate.NewServiceHandler(flaky))
	service.Handler("failing", restate.NewServiceHandler(func(ctx restate.Context, key string) (int, error) {
		return third("failing/" + key)
	}))
	service.Handler("giveup", restate.NewServiceHandler(giveUp))
	service.Handler("relay", restate.NewServiceHandler(relay))
	service.Handler("fanout", restate.NewServiceHandler(fanOut))
	service.Handler("tell", restate.NewServiceHandler(tell))
	service.Handler("ticket", restate.NewServiceHandler(ticket))
	service.Handler("settle", restate.NewServiceHandler(func(ctx restate.Context, one settlement) (restate.Void, error) {
		restate.ResolveAwakeable(ctx, one.ID, one.Value)
		return restate.Void{}, nil
	}))
	service.Handler("spurn", restate.NewServiceHandler(func(ctx restate.Context, one settlement) (restate.Void, error) {
		restate.RejectAwakeable(ctx, one.ID, errors.New(one.Reason))
		return restate.Void{}, nil
	}))
	service.Handler("race", restate.NewServiceHandler(race))
	service.Handler("guarded", restate.NewServiceHandler(guarded))
	service.Handler("caller", restate.NewServiceHandler(func(ctx restate.Context, key string) (string, error) {
		return restate.Service[string](ctx, "Desk", "guarded").Request(key)
	}))
	service.Handler("stop", restate.NewServiceHandler(func(ctx restate.Context, id string) (restate.Void, error) {
		restate.CancelInvocation(ctx, id)
		return restate.Void{}, nil
	}))
	service.Handler("keyed", restate.NewServiceHandler(func(ctx restate.Context, one keyedOrder) (int, error) {
		return add(ctx, one.Key, restate.WithIdempotencyKey(one.ID))
	}))
	service.Handler("random", restate.NewServiceHandler(random))
	service.Handler("headers", restate.NewServiceHandler(func(ctx restate.Context, _ restate.Void) (string, error) {
		return ctx.Request().Headers.Get("x-shop"), nil
	}))
	service.Handler("bytes", restate.NewServiceHandler(func(ctx restate.Context, raw []byte) ([]byte, error) {
		return raw, nil
	}, restate.WithCodec(encoding.BinaryCodec)))
	return service
}

func steps(ctx restate.Context, n int) (int, error) {
	sum := 0
	for i := 1; i <= n; i++ {
		one, err := restate.Run(ctx, func(restate.RunContext) (int, error) { return i, nil })
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

func nap(ctx restate.Context, ms int) (string, error) {
	if err := restate.Sleep(ctx, millis(ms)); err != nil {
		return "", err
	}
	return "woke", nil
}

func third(what string) (int, error) {
	if attempt := count(what); attempt < 3 {
		return 0, fmt.Errorf("attempt %d fails", attempt)
	}
	return 3, nil
}

func flaky(ctx restate.Context, key string) (int, error) {
	return restate.Run(ctx, func(restate.RunContext) (int, error) {
		return third("flaky/" + key)
	}, restate.WithInitialRetryInterval(millis(50)))
}

func giveUp(ctx restate.Context, attempts int) (string, error) {
	_, err := restate.Run(ctx, func(restate.RunContext) (string, error) {
		return "", errors.New("never works")
	}, restate.WithInitialRetryInterval(millis(20)), restate.WithMaxRetryAttempts(uint(attempts)))
	if err == nil {
		return "worked", nil
	}
	return "gave up", nil
}

func relay(ctx restate.Context, text string) (string, error) {
	answer, err := restate.Service[string](ctx, "Desk", "echo").Request(text)
	return answer + "!", err
}

func fanOut(ctx restate.Context, n int) (int, error) {
	calls := make([]restate.Future, n)
	for i := range calls {
		calls[i] = restate.Object[int](ctx, "Counter", fmt.Sprintf("fan-%d", i), "add").RequestFuture(1)
	}
	sum := 0
	for call, err := range restate.Wait(ctx, calls...) {
		if err != nil {
			return 0, err
		}
		answer, err := call.(restate.ResponseFuture[int]).Response()
		if err != nil {
			return 0, err
		}
		sum += answer
	}
	return sum, nil
}

func tell(ctx restate.Context, one order) (string, error) {
	sent := restate.ObjectSend(ctx, "Counter", one.Key, "add").Send(1, restate.WithDelay(millis(one.DelayMs)))
	return sent.GetInvocationId(), nil
}

func ticket(ctx restate.Context, key string) (string, error) {
	awakeable := restate.Awakeable[string](ctx)
	restate.ObjectSend(ctx, "Board", key, "pin").Send(awakeable.Id())
	return awakeable.Result()
}

func race(ctx restate.Context, ms int) (string, error) {
	call := restate.Service[string](ctx, "Desk", "nap").RequestFuture(ms)
	sleep := restate.After(ctx, time.Minute)
	first, err := restate.WaitFirst(ctx, call, sleep)
	if err != nil {
		return "", err
	}
	if first == call {
		return "nap", nil
	}
	return "sleep", nil
}

func guarded(ctx restate.Context, key string) (string, error) {
	if err := restate.Sleep(ctx, 10*time.Minute); err != nil {
		if _, undone := add(ctx, key); undone != nil {
			return "", undone
		}
		return "", err
	}
	return "slept", nil
}

func random(ctx restate.Context, _ restate.Void) (string, error) {
	before := restate.UUID(ctx).String()
	stored, err := restate.Run(ctx, func(restate.RunContext) (string, error) { return before, nil })
	if err != nil {
		return "", err
	}
	if err := restate.Sleep(ctx, millis(200)); err != nil {
		return "", err
	}
	if before == stored {
		return "same", nil
	}
	return "other", nil
}

func counter() restate.ServiceDefinition {
	object := restate.NewObject("Counter")
	object.Handler("add", restate.NewObjectHandler(func(ctx restate.ObjectContext, by int) (int, error) {
		n, err := restate.Get[int](ctx, "n")
		if err != nil {
			return 0, err
		}
		restate.Set(ctx, "n", n+by)
		return n + by, nil
	}))
	object.Handler("get", restate.NewObjectSharedHandler(func(ctx restate.ObjectSharedContext, _ restate.Void) (int, error) {
		return restate.Get[int](ctx, "n")
	}))
	object.Handler("clear", restate.NewObjectHandler(func(ctx restate.ObjectContext, _ restate.Void) (restate.Void, error) {
		restate.ClearAll(ctx)
		return restate.Void{}, nil
	}))
	object.Handler("keys", restate.NewObjectHandler(func(ctx restate.ObjectContext, _ restate.Void) ([]string, error) {
		names, err := restate.Keys(ctx)
		slices.Sort(names)
		return append([]string{}, names...), err
	}))
	object.Handler("hold", restate.NewObjectHandler(func(ctx restate.ObjectContext, ms int) (string, error) {
		return "held", restate.Sleep(ctx, millis(ms))
	}))
	return object
}

func board() restate.ServiceDefinition {
	object := restate.NewObject("Board")
	object.Handler("pin", restate.NewObjectHandler(func(ctx restate.ObjectContext, id string) (restate.Void, error) {
		restate.Set(ctx, "id", id)
		return restate.Void{}, nil
	}))
	object.Handler("read", restate.NewObjectSharedHandler(func(ctx restate.ObjectSharedContext, _ restate.Void) (string, error) {
		return restate.Get[string](ctx, "id")
	}))
	return object
}

func signup() restate.ServiceDefinition {
	workflow := restate.NewWorkflow("Signup")
	workflow.Handler("run", restate.NewWorkflowHandler(func(ctx restate.WorkflowContext, name string) (string, error) {
		restate.Set(ctx, "status", "waiting")
		value, err := restate.Promise[string](ctx, "approved").Result()
		if err != nil {
			return "", err
		}
		restate.Set(ctx, "status", "done")
		return name + " " + value, nil
	}))
	workflow.Handler("approve", restate.NewWorkflowSharedHandler(func(ctx restate.WorkflowSharedContext, value string) (restate.Void, error) {
		return restate.Void{}, restate.Promise[string](ctx, "approved").Resolve(value)
	}))
	workflow.Handler("decline", restate.NewWorkflowSharedHandler(func(ctx restate.WorkflowSharedContext, reason string) (restate.Void, error) {
		return restate.Void{}, restate.Promise[string](ctx, "approved").Reject(errors.New(reason))
	}))
	workflow.Handler("peek", restate.NewWorkflowSharedHandler(func(ctx restate.WorkflowSharedContext, _ restate.Void) (string, error) {
		return restate.Promise[string](ctx, "approved").Peek()
	}))
	workflow.Handler("status", restate.NewWorkflowSharedHandler(func(ctx restate.WorkflowSharedContext, _ restate.Void) (string, error) {
		return restate.Get[string](ctx, "status")
	}))
	return workflow
}

func main() {
	endpoint := server.NewRestate().Bind(desk()).Bind(counter()).Bind(board()).Bind(signup())
	if key := os.Getenv("IDENTITY_KEY"); key != "" {
		endpoint.WithIdentityV1(key)
	}
	log.Fatal(endpoint.Start(context.Background(), "127.0.0.1:"+os.Getenv("PORT")))
}
