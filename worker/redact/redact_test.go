package redact

import (
	"strings"
	"testing"
)

var redactor = New(Config{
	Secrets: []string{"tok-1234567890", "tok-1234567890-longer", "", "abc"},
	Home:    "/home/ada/", User: "ada-lovelace", Host: "workhorse", Prompts: []string{"a red fox in the snow", "cat"},
})

func TestTextTakesOut(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", "job j-1 done in 2s at step=4/20", "job j-1 done in 2s at step=4/20"},
		{"known secret", "sent tok-1234567890 twice: tok-1234567890", "sent " + MarkSecret + " twice: " + MarkSecret},
		{"a secret in a longer one", "tok-1234567890-longer", MarkSecret},
		{"bearer", "Authorization: Bearer abcdefgh12345", "Authorization: Bearer " + MarkSecret},
		{"named in TOML", `auth_token = "x y z"`, "auth_token = " + MarkSecret},
		{"named in JSON", `{"apiKey":"s3cret","n":1}`, `{"apiKey":` + MarkSecret + `,"n":1}`},
		{"named in a query", "GET /x?token=12345&y=1", "GET /x?token=" + MarkSecret + "&y=1"},
		{"in an address", "proxy http://me:pass@proxy:3128", "proxy http://" + MarkSecret + "@proxy:3128"},
		{"home", "open /home/ada/.config: no", "open " + MarkHome + "/.config: no"},
		{"another's home", `C:\Users\Bob\x and /Users/carol/y`, MarkHome + `\x and ` + MarkHome + "/y"},
		{"computer and user", "ada-lovelace on workhorse", MarkUser + " on " + MarkHost},
		{"prompt", `sd-cli: bad prompt "a red fox in the snow" of a cat`, `sd-cli: bad prompt "` + MarkPrompt + `" of a cat`},
		{"mail", "asked by ada@example.com.", "asked by " + MarkMail + "."},
		{"a token with a name in it", "token=ada-lovelace0987 x", "token=" + MarkSecret + " x"},
		{"a home within a home", "/home//home/0", "/home/" + MarkHome},
		{"too short to look for", "abc is no secret", "abc is no secret"},
	}
	for _, test := range tests {
		if got := redactor.Text(test.text); got != test.want {
			t.Errorf("%s: %q became %q, want %q", test.name, test.text, got, test.want)
		}
	}
	if got := Count(redactor.Text("ada-lovelace, a@b.example")); got != 2 {
		t.Errorf("%d places marked, want 2", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("Bearer tok-1234567890 at /home/ada/x by ada@example.com, token=tok-1234567890")
	f.Add(`password: 'a' "b`)
	f.Add("/home//home/0")
	f.Add("token=ada-lovelace0987 and token=x/home/ada")
	f.Fuzz(func(t *testing.T, text string) {
		once := redactor.Text(text)
		if strings.Contains(once, "tok-1234567890") {
			t.Errorf("%q still holds the secret", once)
		}
		if twice := redactor.Text(once); twice != once {
			t.Errorf("%q, done again, is %q", once, twice)
		}
	})
}
