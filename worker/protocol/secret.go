package protocol

import "log/slog"

// Secret is a text that never reaches a log or an error: printed, it is
// "[redacted]". In JSON it is itself, since the wire carries it.
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the text, for the one place that sends it.
func (s Secret) Reveal() string { return string(s) }
