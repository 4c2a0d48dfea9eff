package protocol

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzSplit compares what split takes apart with what encoding/json finds.
func FuzzSplit(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, ` { "a" : 1 , "b\"\\" : [ {} , "," ] , "a" : "\u00e9" } `, `[1,-2.5e3,true,null,"]",{"x":[[]]}]`, `"x"`, `null`, `{"\ud800":""}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o fields
		isObject := o.split(data) // whatever it is: no panic
		items, isList := split(data)
		if !json.Valid(data) {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(data, &members); isObject != (err == nil && members != nil) {
			t.Fatalf("an object: %v, %v", isObject, err)
		}
		for key, want := range members {
			if got, ok := o.get(key); !ok || !bytes.Equal(got, want) {
				t.Errorf("%q is %q, %v, want %q", key, got, ok, want)
			}
		}
		for _, m := range o.members {
			if _, ok := members[string(m.key)]; !ok {
				t.Errorf("%q is no member", m.key)
			}
		}
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); isList != (err == nil && list != nil) || isList && len(items) != len(list) {
			t.Fatalf("a list of %d: %v, %v, want %d", len(items), isList, err, len(list))
		}
		for i, want := range list {
			if !bytes.Equal(items[i], want) {
				t.Errorf("item %d is %q, want %q", i, items[i], want)
			}
		}
		var text string
		if got, ok := plain(bytes.TrimSpace(data)); ok && (json.Unmarshal(data, &text) != nil || got != text) {
			t.Errorf("the string is %q, want %q", got, text)
		}
	})
}

// TestNumbersAndNamesAreReadAsByJSON reads values on the short way and by
// encoding/json.
func TestNumbersAndNamesAreReadAsByJSON(t *testing.T) {
	for _, text := range []string{
		`true`, `false`, `"true"`, `0`, `-0`, `12`, `-1.5`, `2e3`, `1E-400`, `1e999`, `0.1`, `9007199254740993`, `"12"`, `[]`, `{}`, `[1]`,
	} {
		var b, wantB bool
		if err, want := value(json.RawMessage(text), &b), json.Unmarshal([]byte(text), &wantB); (err == nil) != (want == nil) || b != wantB {
			t.Errorf("%s is %v, %v; encoding/json says %v, %v", text, b, err, wantB, want)
		}
		var n, wantN float64
		if err, want := value(json.RawMessage(text), &n), json.Unmarshal([]byte(text), &wantN); (err == nil) != (want == nil) || n != wantN {
			t.Errorf("%s is %v, %v; encoding/json says %v, %v", text, n, err, wantN, want)
		}
	}
}

func TestTheLastOfSeveralKeysCounts(t *testing.T) {
	var got map[string][]string
	if err := value(json.RawMessage(`{"a": 7, "b": ["x"], "\u0061": ["y"], "b": []}`), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got["a"]) != 1 || got["a"][0] != "y" || len(got["b"]) != 0 {
		t.Errorf("got %v", got)
	}
	if err := value(json.RawMessage(`["a"]`), &got); err == nil {
		t.Error("a list is taken for an object")
	}
}
