package logs

import (
	"log/slog"
	"regexp"
	"slices"
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
	size := len(line)
	for _, a := range attrs {
		size += len(a.key) + len(a.value) + 2
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteString(line)
	for _, a := range attrs {
		// Category and job have fields of their own.
		if a.key == categoryKey || a.key == jobKey || slices.Contains(used, a.key) {
			continue
		}
		b.WriteByte(' ')
		b.WriteString(a.key)
		b.WriteByte('=')
		b.WriteString(a.value)
	}
	return oneLine(b.String())
}

// oneLine keeps a line one line, without control characters, and within bounds.
func oneLine(text string) string {
	const longest = 4096 // bytes; the rest is cut
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return text // nearly every line
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
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
