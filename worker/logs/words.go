package logs

import (
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// templates words the records whose text the tests and dashboards of others
// look for (§8.5 of the protocol specification). A name in braces stands for
// the attribute of that name, which is then not repeated. All other records are
// worded as message and key=value pairs.
func templates() map[string]string {
	return map[string]string{
		"connecting":                    "connecting to {url}",
		"advertising":                   "advertising engine={engine} vram={vram_total}/{vram_threshold}GB auto_enabled={auto_enabled} kinds=[{kinds}] {model_count} model(s)=[{models}]",
		"server welcomed":               "server welcomed {worker_id} server_time={server_time}",
		"offer received":                "offer received {job_id} game={game} asset={asset} model={model} vram={vram}",
		"rejecting offer":               "rejecting offer {job_id}: {reason}",
		"job dispatched":                "dispatched in {elapsed_ms}ms",
		"job failed":                    "dispatch failed: {error}",
		"result delivered":              "binary upload ok",
		"studio confirmed completion":   "studio confirmed completion of job {job_id}",
		"studio confirmed failure":      "studio confirmed failure of job {job_id}",
		"disconnected, will reconnect":  "disconnected; reconnect attempt {attempt} in {delay_ms}ms",
		"session error, will reconnect": "session error: {error}; reconnect attempt {attempt} in {delay_ms}ms",
		"giving up":                     "giving up after {attempts} attempts: {error}",
	}
}

// placeholder matches one name in braces.
var placeholder = regexp.MustCompile(`\{[a-z_]+\}`)

// attr is one attribute of a record, its groups joined by dots.
type attr struct{ key, value string }

// words puts a record into one line.
func words(message string, attrs []attr, template string) string {
	var used []string
	line := message
	if template != "" {
		line = placeholder.ReplaceAllStringFunc(template, func(hole string) string {
			name := strings.Trim(hole, "{}")
			used = append(used, name)
			for _, a := range attrs {
				if a.key == name {
					return a.value
				}
			}
			return "?"
		})
	}
	var b []byte
	b = append(b, line...)
	for _, a := range attrs {
		// Category and job have fields of their own.
		if a.key == categoryKey || a.key == jobKey || slices.Contains(used, a.key) {
			continue
		}
		b = append(append(append(append(b, ' '), a.key...), '='), a.value...)
	}
	return oneLine(b)
}

// line is a line in the making: what stands for itself, and what has a field.
type line struct {
	text          []byte // " key=value" pairs
	job, category string
}

// add appends an attribute, groups joined by dots, by the rules of flatten.
func (l *line) add(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			l.add(prefix, member)
		}
		return
	}
	switch {
	case a.Key == "":
		return
	case prefix == "" && a.Key == jobKey:
		if l.job == "" {
			l.job = v.String()
		}
		return
	case prefix == "" && a.Key == categoryKey:
		if l.category == "" {
			l.category = v.String()
		}
		return
	}
	l.text = append(append(append(append(l.text, ' '), prefix...), a.Key...), '=')
	switch v.Kind() { // as v.String does, without a string in between
	case slog.KindString:
		l.text = append(l.text, v.String()...)
	case slog.KindInt64:
		l.text = strconv.AppendInt(l.text, v.Int64(), 10)
	case slog.KindUint64:
		l.text = strconv.AppendUint(l.text, v.Uint64(), 10)
	case slog.KindBool:
		l.text = strconv.AppendBool(l.text, v.Bool())
	default:
		l.text = append(l.text, v.String()...)
	}
}

// oneLine makes text one line, without control characters, and within bounds.
func oneLine(text []byte) string {
	const longest = 4096 // bytes; the rest is cut
	if len(text) <= longest && isPlain(text) {
		return string(text) // nearly every line
	}
	line := string(text)
	if len(line) > longest {
		line = strings.ToValidUTF8(line[:longest], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "�"))
}

// isPlain says whether text is printable ASCII.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// Attributes with a meaning of their own.
const (
	categoryKey = "category"
	jobKey      = "job_id"
)

// DefaultCategory is the category of records that name none: session and jobs.
const DefaultCategory = "ws"

func find(attrs []attr, key string) string {
	for _, a := range attrs {
		if a.key == key {
			return a.value
		}
	}
	return ""
}

// flatten appends an attribute, groups joined by dots, in slog's rules: empty
// attributes and groups vanish, a group without a name is inlined.
func flatten(to []attr, prefix string, a slog.Attr) []attr {
	v := a.Value.Resolve()
	if a.Key == "" && v.Kind() != slog.KindGroup {
		return to
	}
	if v.Kind() != slog.KindGroup {
		return append(to, attr{key: prefix + a.Key, value: v.String()})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, member := range v.Group() {
		to = flatten(to, prefix, member)
	}
	return to
}
