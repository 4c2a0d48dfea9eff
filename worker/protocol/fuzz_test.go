package protocol

import (
	"encoding/json"
	"reflect"
	"testing"
)

// again checks that what was decoded survives a round trip.
func again[F Frame](t *testing.T, f F, decode func([]byte) (F, error)) {
	t.Helper()
	data, err := Encode(f)
	if err != nil {
		t.Fatalf("decoded but cannot be written: %#v: %v", f, err)
	}
	second, err := decode(data)
	if err != nil {
		t.Fatalf("written but cannot be read: %s: %v", data, err)
	}
	twice, err := Encode(second)
	if err != nil || string(data) != string(twice) {
		t.Fatalf("round trip:\n%s\n%s, %v", data, twice, err)
	}
}

func FuzzDecodeWorkerFrame(f *testing.F) {
	for _, text := range []string{
		`{"type":"hello","authToken":"t","capabilities":` + capsText + `}`, `{"type":"heartbeat","capabilities":` + capsText + `,"currentJobId":"j"}`,
		`{"type":"accept","jobId":"j"}`, `{"type":"reject","jobId":"j","reason":"r","code":"busy"}`, `{"type":"completeJson","jobId":"j","result":[{}]}`,
		`{"type":"fail","jobId":"j","error":"e","retryable":false}`, `{"type":"logBatch","entries":[{"ts":"","level":"warn","category":"c","message":"m"}]}`,
		`{"type":"readyForMore"}`, `{"type":"progress","jobId":"j","step":1,"total":2}`,
		`{"type":"delta","jobId":"j","seq":3,"text":"the "}`, `{"type":"resume","jobIds":["j","k"]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if frame, err := DecodeWorkerFrame(data); err == nil {
			again(t, frame, DecodeWorkerFrame)
		}
	})
}

func FuzzDecodeStudioFrame(f *testing.F) {
	for _, text := range []string{
		`{"type":"welcome","workerId":"w","serverTime":"t","features":["x"]}`, offerText(imageText, sourceText),
		offerText(`{"kind":"llm","messages":[{"role":"a","content":"b"}],"stop":["x"],"jsonSchema":{}}`, sourceText),
		offerText(`{"kind":"audio_stt","inputUrl":"u"}`, sourceText), offerText(`{"kind":"audio_tts","text":"t","speed":2}`, sourceText),
		offerText(`{"kind":"video","prompt":"p","fps":3}`, sourceText),
		`{"type":"heartbeatAck"}`, `{"type":"completeAck","jobId":"j"}`, `{"type":"failAck","jobId":"j"}`,
		`{"type":"error","code":"auth_failed","message":"m"}`,
		`{"type":"cancel","jobId":"j","reason":"r"}`, `{"type":"resumed","keep":["j"],"drop":["k"]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if frame, err := DecodeStudioFrame(data); err == nil {
			again(t, frame, DecodeStudioFrame)
		}
	})
}

func fuzzBody[B any](f *testing.F, decode func([]byte) (B, error), seeds ...string) {
	f.Helper()
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := decode(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decode(text); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("round trip: %#v, %#v, %v", first, second, err)
		}
	})
}

func FuzzDecodeRegisterRequest(f *testing.F) {
	fuzzBody(f, DecodeRegisterRequest, `{"installId":"i","registrationSecretHash":"`+
		`9f2b0c66d1e8457ab3f0c2d4e6a81935b7c9d0e1f2031425364758697a8b9cad","capabilities":`+capsText+`,"userAgent":"u"}`)
}

func FuzzDecodeRegisterResponse(f *testing.F) {
	fuzzBody(f, DecodeRegisterResponse, `{"requestId":"rr","status":"pending"}`)
}

func FuzzDecodePollResponse(f *testing.F) {
	fuzzBody(f, DecodePollResponse, `{"status":"approved","workerId":"w","authToken":"t"}`, `{"status":"rejected","reason":"no"}`, `{"status":"pending"}`)
}

func FuzzParseBase(f *testing.F) {
	f.Add("https://h.example/x/graphics/api/", "w/1")
	f.Fuzz(func(t *testing.T, address, id string) {
		base, err := ParseBase(address)
		if err != nil {
			return
		}
		if again, err := ParseBase(base.ConnectURL(id)); err != nil || again.Host() != base.Host() {
			t.Fatalf("%q leads to %q: %v", address, base.ConnectURL(id), err)
		}
	})
}
