package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
)

// Events follows a job: first its current state, then each change, until a
// final state. The sequence ends after that, or with one error, such as a
// connection that broke before; the job goes on then.
func (c *Client) Events(ctx context.Context, id string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, nil, "jobs/"+url.PathEscape(id)+"/events")
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer resp.Body.Close()
		for event, err := range readEvents(resp.Body) {
			if !yield(event, err) || err != nil || event.Job.State.Final() {
				return
			}
		}
	}
}

// readEvents parses a stream of server-sent events. It ends with the first
// error; the end of the stream is one, since only a final state ends it well.
func readEvents(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 4096), maxEvent)
		var kind string
		var data []byte
		var job JobStatus // as it was told last
		for lines.Scan() {
			line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch {
			case len(line) == 0 && len(data) == 0:
				kind = ""
			case len(line) == 0:
				event, err := decodeEvent(kind, data, job)
				job = event.Job
				if !yield(event, err) || err != nil {
					return
				}
				kind, data = "", nil
			case string(name) == "event":
				kind = string(value)
			case string(name) == "data":
				if len(data)+len(value) > maxEvent {
					yield(Event{}, errors.New("follow the job: an event is too long"))
					return
				}
				if data != nil {
					data = append(data, '\n')
				}
				data = append(data, value...)
			}
		}
		err := lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(Event{}, fmt.Errorf("follow the job: %w", err))
	}
}

// decodeEvent reads one event; job is what the one before said.
func decodeEvent(kind string, data []byte, job JobStatus) (Event, error) {
	event := Event{Type: EventType(kind)}
	var err error
	switch event.Type {
	case EventState, EventProgress:
		err = json.Unmarshal(data, &event.Job)
	case EventDelta:
		event.Job, event.Delta = job, &Delta{}
		err = json.Unmarshal(data, event.Delta)
	default:
		err = fmt.Errorf("unknown event %.100q", kind)
	}
	if err != nil {
		return Event{}, fmt.Errorf("follow the job: %w", err)
	}
	return event, nil
}
