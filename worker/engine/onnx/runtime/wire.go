package runtime

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// Bounds on one message.
const (
	maxHeader  = 256 << 10 // bytes of JSON
	maxParts   = 64        // tensors
	maxRank    = 8         // dimensions of a tensor
	maxNumbers = 64 << 20  // of all tensors together
)

// Tensor is a list of numbers with a shape: float32 or int64, whichever is not
// nil.
type Tensor struct {
	Name   string
	Shape  []int64
	Floats []float32
	Ints   []int64
}

// part describes a tensor in a header.
type part struct {
	Name  string  `json:"name"`
	Shape []int64 `json:"shape"`
	Ints  bool    `json:"ints"`
}

// request asks for one run of a model.
type request struct {
	Model   string   `json:"model"`
	Inputs  []part   `json:"inputs"`
	Outputs []string `json:"outputs"`
}

// reply has the outputs, or says what went wrong.
type reply struct {
	Error   string `json:"error,omitempty"`
	Outputs []part `json:"outputs"`
}

// numbers is how many numbers a shape holds. A shape that cannot be is an error.
func numbers(shape []int64) (int, error) {
	n := int64(1)
	if len(shape) > maxRank {
		return 0, fmt.Errorf("a tensor has %d dimensions", len(shape))
	}
	for _, side := range shape {
		if side < 0 || side > maxNumbers || n*side > maxNumbers {
			return 0, fmt.Errorf("a tensor of the shape %v is too large", shape)
		}
		n *= side
	}
	return int(n), nil
}

// partsOf describes tensors. Numbers that do not fit their shape are an error.
func partsOf(tensors []Tensor) ([]part, error) {
	parts, total := make([]part, 0, len(tensors)), 0
	if len(tensors) > maxParts {
		return nil, fmt.Errorf("%d tensors are too many", len(tensors))
	}
	for _, t := range tensors {
		n, err := numbers(t.Shape)
		if err != nil {
			return nil, err
		}
		if total += n; n != max(len(t.Floats), len(t.Ints)) || total > maxNumbers {
			return nil, fmt.Errorf("tensor %q does not fit its shape %v", t.Name, t.Shape)
		}
		parts = append(parts, part{t.Name, t.Shape, t.Ints != nil})
	}
	return parts, nil
}

// send writes a header and the numbers of its tensors.
func send(w io.Writer, header any, tensors []Tensor) error {
	text, err := json.Marshal(header)
	if err != nil || len(text) > maxHeader {
		return errors.Join(errors.New("write a message: its header is too long"), err)
	}
	to := bufio.NewWriterSize(w, 1<<16)
	message := append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...)
	if _, err := to.Write(message); err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	var number [8]byte
	for _, t := range tensors {
		for _, v := range t.Floats {
			binary.LittleEndian.PutUint32(number[:], math.Float32bits(v))
			if _, err := to.Write(number[:4]); err != nil {
				return fmt.Errorf("write a message: %w", err)
			}
		}
		for _, v := range t.Ints {
			binary.LittleEndian.PutUint64(number[:], uint64(v))
			if _, err := to.Write(number[:]); err != nil {
				return fmt.Errorf("write a message: %w", err)
			}
		}
	}
	if err := to.Flush(); err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	return nil
}

// receive reads a header into the value that header points to.
func receive(r io.Reader, header any) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxHeader {
		return errors.New("read a message: its header is too long")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	if err := json.Unmarshal(text, header); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	return nil
}

// receiveTensors reads the numbers that a header announced.
func receiveTensors(r io.Reader, parts []part) ([]Tensor, error) {
	if len(parts) > maxParts {
		return nil, fmt.Errorf("read a message: %d tensors are too many", len(parts))
	}
	total := 0
	tensors := make([]Tensor, 0, len(parts))
	for _, p := range parts {
		n, err := numbers(p.Shape)
		if err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		if total += n; total > maxNumbers {
			return nil, errors.New("read a message: its tensors are too large")
		}
		t := Tensor{Name: p.Name, Shape: p.Shape}
		if err := t.read(r, n, p.Ints); err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		tensors = append(tensors, t)
	}
	return tensors, nil
}

// read reads n numbers, in pieces: what was announced may never come.
func (t *Tensor) read(r io.Reader, n int, ints bool) error {
	const piece = 1 << 16 // numbers
	width := 4
	if ints {
		width, t.Ints = 8, make([]int64, 0, min(n, piece))
	} else {
		t.Floats = make([]float32, 0, min(n, piece))
	}
	data := make([]byte, min(n, piece)*width)
	for left := n; left > 0; {
		now := data[:min(left, piece)*width]
		if _, err := io.ReadFull(r, now); err != nil {
			return err
		}
		left -= len(now) / width
		for ; len(now) > 0; now = now[width:] {
			if ints {
				t.Ints = append(t.Ints, int64(binary.LittleEndian.Uint64(now)))
			} else {
				t.Floats = append(t.Floats, math.Float32frombits(binary.LittleEndian.Uint32(now)))
			}
		}
	}
	return nil
}
