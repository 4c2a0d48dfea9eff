package model

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
)

// reasons are all that package observe has, as its source lists them.
func reasons(t *testing.T) []observe.Reason {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../worker/observe/why.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var all []observe.Reason
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, observe.Reason(text))
		}
		return true
	})
	return all
}

// TestEveryReasonHasWords: each reason but the unknown is said in both languages,
// never in the worker's words.
func TestEveryReasonHasWords(t *testing.T) {
	all := reasons(t)
	if len(all) < 40 {
		t.Fatalf("only %d reasons found: the search does not work", len(all))
	}
	de := words.New(words.German)
	for _, r := range all {
		for _, said := range []string{"", "502: no"} {
			why := observe.Why{Reason: r, Said: said}
			english, german := reason(en, why, "raw", now), reason(de, why, "raw", now)
			switch {
			case r == observe.ReasonUnknown:
				if english != "raw" || german != "raw" {
					t.Errorf("unknown: %q, %q", english, german)
				}
			case english == "" || english == "raw" || german == "raw" || english == german || strings.Contains(english+german, "%!"):
				t.Errorf("%s: %q, %q", r, english, german)
			}
		}
	}
	if got := reason(de, observe.Why{Reason: "of a later version"}, "raw", now); got != "raw" {
		t.Errorf("a reason of a later version: %q", got)
	}
}

// TestReasonsKeepWhatIsKnown: hosts, numbers and times that the worker's text has
// are in both languages.
func TestReasonsKeepWhatIsKnown(t *testing.T) {
	de := words.New(words.German)
	at := time.Date(2025, time.March, 1, 8, 30, 0, 0, now.Location())
	theirs := time.Date(2027, time.May, 2, 9, 15, 0, 0, now.Location())
	for _, tc := range []struct {
		why             observe.Why
		english, german string
	}{
		{observe.Why{Reason: observe.ReasonNoHost, Said: "studio.example"}, "no address belongs to the name studio.example", "zum Namen studio.example gehört keine Adresse"},
		{observe.Why{Reason: observe.ReasonTooLate, Said: "15s"}, "there was no answer in time (15s)", "es kam keine rechtzeitige Antwort (15s)"},
		{observe.Why{Reason: observe.ReasonStatus, Said: "502: no"}, "the other side reports error 502: no", "die Gegenseite meldet Fehler 502: no"},
		{
			observe.Why{Reason: observe.ReasonNobodyThere, Said: "10.0.0.1:3128", Proxy: "proxy.example:3128"},
			"the proxy proxy.example:3128 does not connect: nobody answers at 10.0.0.1:3128",
			"der Proxy proxy.example:3128 stellt keine Verbindung her: 10.0.0.1:3128 antwortet nicht",
		},
		{
			observe.Why{Reason: observe.ReasonProxy, Said: "EOF", Proxy: "proxy.example:3128"},
			"the proxy proxy.example:3128 does not connect (EOF)", "der Proxy proxy.example:3128 stellt keine Verbindung her (EOF)",
		},
		{
			observe.Why{Reason: observe.ReasonUntrusted, Said: "studio.example", More: `"Office CA"`},
			`the certificate of studio.example comes from "Office CA", which this computer does not trust; if that is right, name the issuer's file in the settings as ca_file`,
			`das Zertifikat von studio.example kommt von "Office CA", dem dieser Computer nicht vertraut; wenn das stimmt, nenne die Datei des Ausstellers in den Einstellungen als ca_file`,
		},
		{
			observe.Why{Reason: observe.ReasonExpired, Said: "studio.example", More: `"Harbour CA"`, At: at, Clock: theirs},
			`the certificate of studio.example, issued by "Harbour CA", was good until 1 Mar 2025 08:30; is this computer's clock right? It says 12 Mar 2026 14:02, the studio says 2 May 2027 09:15`,
			`das Zertifikat von studio.example, ausgestellt von "Harbour CA", galt bis 1. März 2025 08:30; geht die Uhr dieses Computers richtig? Sie zeigt 12. März 2026 14:02, die des Studios 2. Mai 2027 09:15`,
		},
		{
			observe.Why{Reason: observe.ReasonNotYet, Said: "studio.example", More: `"Harbour CA"`, At: theirs},
			`the certificate of studio.example, issued by "Harbour CA", is good only from 2 May 2027 09:15; is this computer's clock right? It says 12 Mar 2026 14:02`,
			`das Zertifikat von studio.example, ausgestellt von "Harbour CA", gilt erst ab 2. Mai 2027 09:15; geht die Uhr dieses Computers richtig? Sie zeigt 12. März 2026 14:02`,
		},
		{observe.Why{Reason: observe.ReasonHours, At: now.Add(2 * time.Hour)}, "it waits for the hours of updates, until 16:02", "sie wartet auf die Zeiten für Aktualisierungen, bis 16:02"},
		{
			observe.Why{Reason: observe.ReasonOutdated, Said: "release.json", At: at},
			"what lies at the address of updates was good until 1 Mar 2025 08:30; is this computer's clock right? (release.json)",
			"was an der Adresse für Aktualisierungen liegt, galt bis 1. März 2025 08:30; geht die Uhr dieses Computers richtig? (release.json)",
		},
		{observe.Why{Reason: observe.ReasonNoRoom, Said: "12 MB", More: "100 MB"}, "there is too little room for it: 12 MB are free, 100 MB are needed", "es ist zu wenig Platz dafür: 12 MB sind frei, 100 MB sind nötig"},
		{observe.Why{Reason: observe.ReasonCopied, Said: "/old.toml"}, "the settings were copied from another computer; their key is kept in /old.toml", "die Einstellungen wurden von einem anderen Computer kopiert; ihr Schlüssel liegt noch in /old.toml"},
		{observe.Why{Reason: observe.ReasonLeft}, "the studio signed off", "das Studio hat sich abgemeldet"},
		{observe.Why{Reason: observe.ReasonInstall, Said: "Flatpak"}, "Flatpak keeps it up to date", "Flatpak hält es aktuell"},
		{observe.Why{Reason: observe.ReasonStudioSays, Said: "one\ntwo"}, "the studio ended the connection and says: one two", "das Studio hat die Verbindung beendet und sagt: one two"},
	} {
		if got := reason(en, tc.why, "raw", now); got != tc.english {
			t.Errorf("%s: got %q, want %q", tc.why.Reason, got, tc.english)
		}
		if got := reason(de, tc.why, "raw", now); got != tc.german {
			t.Errorf("%s: got %q, want %q", tc.why.Reason, got, tc.german)
		}
	}
}
