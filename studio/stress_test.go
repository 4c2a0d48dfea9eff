package studio

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// moody is a worker that does what workers do on bad days: it hangs up, turns
// offers down and fails, until its context ends.
type moody struct {
	*fake
	dice *rand.Rand

	done map[string]int // results acknowledged, by job
}

func (m *moody) work(ctx context.Context, t *testing.T) error {
	t.Helper()
	for ctx.Err() == nil {
		conn, resp, err := m.upgrade(ctx, t, m.token, protocol.Version)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read below
		err = m.session(conn)
		stop()
		_ = conn.Close() // it may be closed already
		if websocket.IsCloseError(err, int(protocol.CloseViolation)) {
			return err
		}
	}
	return nil
}

// session answers frames until the worker hangs up.
func (m *moody) session(conn *websocket.Conn) error {
	var failed error
	send := func(f protocol.Frame) {
		data, err := protocol.Encode(f)
		failed = errors.Join(failed, err, conn.WriteMessage(websocket.TextMessage, data))
	}
	send(protocol.Hello{AuthToken: m.token, Capabilities: m.caps})
	for failed == nil {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		frame, err := protocol.DecodeStudioFrame(data)
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case protocol.Welcome, protocol.FailAck:
			send(protocol.Heartbeat{Capabilities: m.caps})
		case protocol.CompleteAck:
			m.done[f.JobID]++
			send(protocol.Heartbeat{Capabilities: m.caps})
		case protocol.Offer:
			id := f.Claim.JobID
			switch m.dice.IntN(8) {
			case 0:
				return nil // gone before an answer
			case 1:
				send(protocol.Reject{JobID: id, Reason: "worker already has an in-flight job", Code: protocol.RejectBusy})
				send(protocol.Heartbeat{Capabilities: m.caps})
			case 2:
				send(protocol.Accept{JobID: id})
				send(protocol.Fail{JobID: id, Error: "out of memory", Retryable: true})
			case 3:
				send(protocol.Accept{JobID: id})
				send(protocol.Heartbeat{Capabilities: m.caps, CurrentJobID: id})
				return failed // gone with the job
			default:
				send(protocol.Accept{JobID: id})
				send(protocol.CompleteJSON{JobID: id, Result: json.RawMessage(`"result of ` + id + `"`)})
			}
		}
	}
	return failed
}

// TestMoodyWorkersFinishEverything: however workers behave within the protocol,
// each job ends done with its own result, and no worker is accused.
func TestMoodyWorkersFinishEverything(t *testing.T) {
	f := newFarm(t, func(c *Config) { c.MaxAttempts, c.RetryPause = 1000, time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	var all []*moody
	for i := range uint64(6) {
		m := &moody{fake: f.worker(t), dice: rand.New(rand.NewPCG(i, 7)), done: map[string]int{}} // #nosec G404 -- the same moods in each run
		all = append(all, m)
		working.Go(func() {
			if err := m.work(ctx, t); err != nil && ctx.Err() == nil {
				t.Errorf("worker %d: %v", i, err)
			}
		})
	}
	var ids []string
	for range 60 {
		ids = append(ids, f.submit(t, llmJob).ID)
	}
	for _, id := range ids {
		f.await(t, id, in(client.Done))
		if got, _ := f.fetch(t, id); string(got) != `"result of `+id+`"` {
			t.Errorf("result of %s is %s", id, got)
		}
	}
	cancel()
	working.Wait()
	for _, id := range ids {
		acks := 0
		for _, m := range all {
			acks += m.done[id]
		}
		if acks > 1 {
			t.Errorf("%d results of %s were taken", acks, id)
		}
	}
}
