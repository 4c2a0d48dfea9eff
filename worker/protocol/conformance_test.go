package protocol

import (
	"strings"
	"testing"
)

// TestConformance prints behaviours of the specification's §13 by their number:
// those that share a table elsewhere, and the scheme of the socket's address.
func TestConformance(t *testing.T) {
	worker := func(text string) (Frame, error) { return DecodeWorkerFrame([]byte(text)) }
	studio := func(text string) (Frame, error) { return DecodeStudioFrame([]byte(text)) }
	offer := func(without string) string {
		members := map[string]string{"task": `"task":` + imageText + `,`, "modelSource": `"modelSource":` + sourceText + `,`}
		members[without] = ""
		return `{"type":"offer","claim":{` + members["task"] + members["modelSource"] +
			`"jobId":"j","gameId":"g","assetName":"a","model":"m","vramGbEstimate":1}}`
	}
	again := func(decode func(string) (Frame, error), text string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			f, err := decode(text)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := Encode(f); err != nil || string(data) != text {
				t.Errorf("got  %s, %v\nwant %s", data, err, text)
			}
		}
	}
	refused := func(decode func(string) (Frame, error), text, says string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if _, err := decode(text); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, want it to say %q", text, err, says)
			}
		}
	}
	all := func(parts ...func(*testing.T)) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			for _, part := range parts {
				part(t)
			}
		}
	}
	for _, tc := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"#7 accept round-trips", again(worker, `{"type":"accept","jobId":"job-31"}`)},
		{"#8 reject without a code gains none", again(worker, `{"type":"reject","jobId":"j","reason":"r"}`)},
		{"#9 both codes of a reject", all(
			again(worker, `{"type":"reject","jobId":"j","reason":"r","code":"paused"}`),
			again(worker, `{"type":"reject","jobId":"j","reason":"r","code":"busy"}`))},
		{"#10 a result is an object or a list", all(
			again(worker, `{"type":"completeJson","jobId":"j","result":{"a":1}}`),
			again(worker, `{"type":"completeJson","jobId":"j","result":[1]}`))},
		{"#11 no prompt, no key", again(worker, `{"type":"completeJson","jobId":"j","result":1}`)},
		{"#12 fail says what and whether again", again(worker, `{"type":"fail","jobId":"j","error":"e","retryable":false}`)},
		{"#13 a batch without entries", again(worker, `{"type":"logBatch","entries":[]}`)},
		{"#14 readyForMore has its type only", again(worker, `{"type":"readyForMore"}`)},
		{"#15 unknown frame of a worker", refused(worker, `{"type":"dance"}`, "dance")},
		{"#16 welcome needs worker and time", all(
			refused(studio, `{"type":"welcome","serverTime":"now"}`, "workerId"),
			refused(studio, `{"type":"welcome","workerId":"w"}`, "serverTime"))},
		{"#19 offer without task or source", all(
			refused(studio, offer("task"), "task"), refused(studio, offer("modelSource"), "modelSource"))},
		{"#21 acks carry the job", all(
			again(studio, `{"type":"completeAck","jobId":"j"}`), again(studio, `{"type":"failAck","jobId":"j"}`),
			refused(studio, `{"type":"completeAck"}`, "jobId"), refused(studio, `{"type":"failAck"}`, "jobId"))},
		{"#22 the codes of an error", all(
			again(studio, `{"type":"error","code":"auth_failed","message":"m"}`),
			again(studio, `{"type":"error","code":"protocol_violation","message":"m"}`),
			again(studio, `{"type":"error","code":"duplicate_worker","message":"m"}`),
			again(studio, `{"type":"error","code":"worker_deleted","message":"m"}`),
			again(studio, `{"type":"error","code":"internal_error","message":"m"}`),
			refused(studio, `{"type":"error","code":"tired","message":"m"}`, "tired"))},
		{"#23 unknown frame of a studio", refused(studio, `{"type":"sing"}`, "sing")},
		{"#30 the scheme of the socket", func(t *testing.T) {
			t.Helper()
			for base, want := range map[string]string{"http://h": "ws://h/", "https://h": "wss://h/", "ws://h": "ws://h/", "wss://h": "wss://h/"} {
				b, err := ParseBase(base)
				if err != nil {
					t.Fatal(err)
				}
				if got := b.ConnectURL("w"); !strings.HasPrefix(got, want) {
					t.Errorf("%s connects to %s", base, got)
				}
			}
		}},
	} {
		t.Run(tc.name, tc.run)
	}
}
