// Command least is the smallest worker that a studio may take for one: it says
// hello and sends heartbeats until it is killed. Benchmarks compare the real one
// with it.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	if err := work(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "least:", err)
		os.Exit(1)
	}
}

// work holds a session with the studio at an address that ends with /connect.
func work(ctx context.Context, address string) error {
	dialer := websocket.Dialer{Subprotocols: []string{"studio-worker-v1"}}
	ws, answer, err := dialer.DialContext(ctx, address, http.Header{"Authorization": {"Bearer t"}})
	if err != nil {
		return err
	}
	_ = answer.Body.Close() // empty after an upgrade
	capabilities := map[string]any{
		"machineName": "least", "username": "least", "agentVersion": "0", "engine": "multi", "vramTotalGb": 0, "vramThresholdGb": 0,
		"autoEnabled": false, "autoStart": false, "supportedModels": []string{}, "taskKinds": []string{}, "supportedModelsPerKind": map[string][]string{},
	}
	if err := ws.WriteJSON(map[string]any{"type": "hello", "authToken": "t", "capabilities": capabilities}); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		for {
			var frame map[string]any
			if err := ws.ReadJSON(&frame); err != nil {
				ended <- err
				return
			}
		}
	}()
	ticker := time.NewTicker(5 * time.Second)
	for {
		if err := ws.WriteJSON(map[string]any{"type": "heartbeat", "capabilities": capabilities}); err != nil {
			return err
		}
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
		}
	}
}
