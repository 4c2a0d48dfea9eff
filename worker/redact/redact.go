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
	"sync"
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
	secrets, names *strings.Replacer
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
	var secrets, names pairs
	for _, secret := range cfg.Secrets {
		secrets.add(secret, MarkSecret)
	}
	for _, prompt := range cfg.Prompts {
		if len(prompt) >= shortestPrompt {
			secrets.add(prompt, MarkPrompt)
		}
	}
	names.add(strings.TrimRight(cfg.Home, `/\`), MarkHome)
	names.add(cfg.Host, MarkHost)
	names.add(cfg.User, MarkUser)
	return &Redactor{secrets.replacer(), names.replacer()}
}

// pairs are texts with what stands for them.
type pairs [][2]string

func (p *pairs) add(text, mark string) {
	if text = strings.TrimSpace(text); len(text) >= shortest {
		*p = append(*p, [2]string{text, mark})
	}
}

// replacer has a text that holds another go first, and go whole.
func (p pairs) replacer() *strings.Replacer {
	slices.SortStableFunc(p, func(a, b [2]string) int { return cmp.Compare(len(b[0]), len(a[0])) })
	var words []string
	for _, pair := range p {
		words = append(words, pair[0], pair[1])
	}
	return strings.NewReplacer(words...)
}

// The forms of what nobody told us.
var (
	bearer = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`) })
	named  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)\b((?:[a-z_]*(?:token|secret|password|passwd|api[_-]?key))["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;&]+)`)
	})
	inURL = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(://)[^/\s:@]+:[^/\s@]+@`) })
	mail  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+`)
	})
	homes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s"':]+`) })
)

// marks finds what was put in before.
var marks = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\[redacted: [a-z ]+\]`) })

// Text returns text with everything taken out. Doing it twice changes nothing more.
func (r *Redactor) Text(text string) string {
	// Each step takes from what is outside the marks, and marks stay: this ends.
	for {
		before := text
		// Names last: a token may hold one.
		for _, take := range []func(string) string{r.secrets.Replace, forms, r.names.Replace, homesAndMail} {
			text = outside(text, take)
		}
		if text == before {
			return text
		}
	}
}

// outside changes what is not a mark.
func outside(text string, change func(string) string) string {
	var out strings.Builder
	from := 0
	for _, at := range marks().FindAllStringIndex(text, -1) {
		out.WriteString(change(text[from:at[0]]))
		out.WriteString(text[at[0]:at[1]])
		from = at[1]
	}
	out.WriteString(change(text[from:]))
	return out.String()
}

// forms takes out what looks like a credential.
func forms(text string) string {
	text = bearer().ReplaceAllString(text, "$1 "+MarkSecret)
	text = outside(text, func(text string) string {
		return named().ReplaceAllStringFunc(text, func(match string) string {
			parts := named().FindStringSubmatch(match)
			if strings.Trim(parts[2], `"'`) == "" {
				return match // nothing, or a mark follows
			}
			return parts[1] + MarkSecret
		})
	})
	return outside(text, func(text string) string { return inURL().ReplaceAllString(text, "$1"+MarkSecret+"@") })
}

// homesAndMail takes out folders and addresses of people.
func homesAndMail(text string) string {
	text = homes().ReplaceAllString(text, MarkHome)
	return outside(text, func(text string) string { return mail().ReplaceAllString(text, MarkMail) })
}

// Count says how many places of a text are marked.
func Count(text string) int { return strings.Count(text, "[redacted: ") }
