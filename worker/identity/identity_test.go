package identity

import "testing"

const id = "0f3c9a52-7b1e-4d86-9a40-c2d5e8f17b63"

func TestIDs(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"Linux":         {"0f3c9a527b1e4d869a40c2d5e8f17b63\n", "0f3c9a527b1e4d869a40c2d5e8f17b63"},
		"upper case":    {" 0F3C9A52-7B1E-4D86-9A40-C2D5E8F17B63 ", id},
		"first boot":    {"uninitialized\n", ""},
		"empty":         {"\n", ""},
		"short":         {"0f3c", ""},
		"all zero":      {"00000000-0000-0000-0000-000000000000", ""},
		"not hex":       {"harbour-harbour-harbour", ""},
		"endless":       {string(make([]byte, 4096)), ""},
		"two in a file": {id + "\n" + id, ""},
	} {
		if got, err := clean(tc.text); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func TestIoreg(t *testing.T) {
	const printed = "+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000260, registered, matched, active>\n    {\n" +
		"      \"IOPlatformUUID\" = \"0F3C9A52-7B1E-4D86-9A40-C2D5E8F17B63\"\n      \"model\" = <\"x\">\n    }\n"
	if got, err := platformUUID(printed); got != id || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", `"IOPlatformUUID"`, `"IOPlatformUUID" = "`, `"IOPlatformUUID" = "` + id, `"IOPlatformUUID" = ""`} {
		if got, err := platformUUID(text); err == nil {
			t.Errorf("%q gave %q", text, got)
		}
	}
}

func TestHash(t *testing.T) {
	all := map[string]bool{}
	for _, pair := range [][2]string{{id, "i"}, {id, "j"}, {"0" + id, "i"}, {id + "i", ""}} {
		hash := Hash(pair[0], pair[1])
		if len(hash) != 64 || hash != Hash(pair[0], pair[1]) {
			t.Errorf("%q: %q", pair, hash)
		}
		all[hash] = true
	}
	if len(all) != 4 {
		t.Error("two of four have one hash")
	}
}

func FuzzPlatformUUID(f *testing.F) {
	f.Add(`"IOPlatformUUID" = "` + id + `"`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := platformUUID(text); err == nil {
			if again, err := clean(got); err != nil || again != got {
				t.Errorf("%q is not clean: %q, %v", got, again, err)
			}
		}
	})
}
