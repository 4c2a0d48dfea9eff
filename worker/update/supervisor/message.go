package supervisor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Kind says what a child tells.
type Kind string

// What a child tells.
const (
	// Opened: config and credentials are read, and Results wait in the outbox.
	Opened Kind = "opened"
	// Connected: the studio has welcomed it.
	Connected Kind = "connected"
	// Notify: the service manager is to hear Text.
	Notify Kind = "notify"
	// Restart: it ends, so that the next version can start.
	Restart Kind = "restart"
	// Ended: it ends in good order, with whatever exit code.
	Ended Kind = "ended"
)

// Asked is the text of Restart when a person asked for it and waits.
const Asked = "asked"

// Message is one line of a child.
type Message struct {
	Kind    Kind   `json:"kind"`
	Results int    `json:"results,omitempty"`
	Text    string `json:"text,omitempty"`
}

// maxLine bounds a line, in bytes.
const maxLine = 4 << 10

// receive hands each message to f until the child has gone or writes nonsense.
func receive(r io.Reader, f func(Message)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 512), maxLine)
	for lines.Scan() {
		var m Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("the running version writes nonsense: %w", err)
		}
		if m.Results < 0 || strings.ContainsRune(m.Text, 0) {
			return errors.New("the running version writes nonsense")
		}
		f(m)
	}
	return lines.Err()
}
