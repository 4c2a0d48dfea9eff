// Package redact takes out of a text what must not leave this computer: credentials, the
// home folder, the names of the computer and its user, mail addresses. Each place is
// marked, so that a reader sees that something was there.
//
// It knows the secrets and prompts it was told, and the forms that secrets usually have. A
// prompt has no form: one that it was not told stays.
package redact

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// shortest is the length from which a secret or a name is looked for. A shorter one
// would be found in ordinary words.
const shortest = 4

// shortestPrompt is the length from which a prompt is looked for: "a cat" is words.
const shortestPrompt = 12

// Config says what is known.
type Config struct {
	Secrets []string // credentials of this worker and its studio
	Home    string   // the user's home folder
	User    string   // the user's name
	Host    string   // the computer's name
	Prompts []string // what people asked for lately; whole, or as far as it is known
}

// Redactor takes things out. It is safe for concurrent use.
type Redactor struct {
	known *strings.Replacer
}

// The marks.
const (
	MarkSecret = "[redacted: secret]" // #nosec G101 -- what stands for one
	MarkHome   = "[redacted: home]"
	MarkUser   = "[redacted: user]"
	MarkHost   = "[redacted: computer]"
	MarkMail   = "[redacted: mail address]"
	MarkPrompt = "[redacted: prompt]"
)

// New returns a redactor for what cfg knows.
func New(cfg Config) *Redactor {
	type pair struct{ text, mark string }
	var pairs []pair
	add := func(text, mark string) {
		if text = strings.TrimSpace(text); len(text) >= shortest {
			pairs = append(pairs, pair{text, mark})
		}
	}
	for _, secret := range cfg.Secrets {
		add(secret, MarkSecret)
	}
	for _, prompt := range cfg.Prompts {
		if len(prompt) >= shortestPrompt {
			add(prompt, MarkPrompt)
		}
	}
	add(strings.TrimRight(cfg.Home, `/\`), MarkHome)
	add(cfg.Host, MarkHost)
	add(cfg.User, MarkUser)
	// A secret that holds another goes first, and goes whole.
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(len(b.text), len(a.text)) })
	var words []string
	for _, p := range pairs {
		words = append(words, p.text, p.mark)
	}
	return &Redactor{known: strings.NewReplacer(words...)}
}

// The forms of what nobody told us.
var (
	bearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`)
	named  = regexp.MustCompile(`(?i)\b((?:[a-z_]*(?:token|secret|password|passwd|api[_-]?key))["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;&]+)`)
	inURL  = regexp.MustCompile(`(://)[^/\s:@]+:[^/\s@]+@`)
	mail   = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+`)
	homes  = regexp.MustCompile(`(?:/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s"':]+`)
)

// Text returns text with everything taken out. Doing it twice changes nothing more.
func (r *Redactor) Text(text string) string {
	text = r.known.Replace(text)
	text = bearer.ReplaceAllString(text, "$1 "+MarkSecret)
	text = named.ReplaceAllStringFunc(text, func(match string) string {
		parts := named.FindStringSubmatch(match)
		if strings.HasPrefix(strings.Trim(parts[2], `"'`), "[redacted") || strings.Trim(parts[2], `"'`) == "" {
			return match
		}
		return parts[1] + MarkSecret
	})
	text = inURL.ReplaceAllString(text, "$1"+MarkSecret+"@")
	text = homes.ReplaceAllString(text, MarkHome)
	return mail.ReplaceAllString(text, MarkMail)
}

// Count says how many places of a text are marked.
func Count(text string) int { return strings.Count(text, "[redacted: ") }
