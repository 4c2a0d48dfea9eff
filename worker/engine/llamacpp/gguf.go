package llamacpp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// header is what the head of a GGUF file says of a model.
type header struct {
	Architecture string
	// Context is how many tokens the model was trained on; 0 = unknown.
	Context uint64
	// Template tells whether the file has a chat template.
	Template bool
}

// Bounds on the head of a GGUF file.
const (
	maxPairs   = 65_536
	maxKey     = 64 << 10  // bytes
	maxItems   = 16 << 20  // of an array: a large vocabulary has a quarter of a million
	maxHead    = 512 << 20 // bytes of all pairs
	maxNesting = 4         // arrays in arrays
	ggufMagic  = "GGUF"
)

// errNotGGUF says that a file is no model that the program could load.
var errNotGGUF = errors.New("it is no GGUF file")

// heads remembers the heads of model files, since reading one passes over the whole
// vocabulary, and each job asks for it. Its zero value is ready, and safe for
// concurrent use.
type heads struct {
	mu    sync.Mutex
	known map[string]headOf // by path
}

// headOf is the head of a file as it was.
type headOf struct {
	head     header
	size     int64 // bytes
	modified time.Time
}

// maxHeads bounds how many heads are remembered.
const maxHeads = 256

// of returns the head of a file, which it reads again when the file has changed.
func (k *heads) of(path string) (header, error) {
	info, err := os.Stat(path)
	if err != nil {
		return header{}, fmt.Errorf("look at the model: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, ok := k.known[path]; ok && old.size == info.Size() && old.modified.Equal(info.ModTime()) {
		return old.head, nil
	}
	head, err := readHeader(path)
	if err != nil {
		return head, err
	}
	if k.known == nil || len(k.known) >= maxHeads {
		k.known = map[string]headOf{}
	}
	k.known[path] = headOf{head: head, size: info.Size(), modified: info.ModTime()}
	return head, nil
}

// readHeader reads the head of a GGUF file. Files of versions 2 and 3 are known.
func readHeader(path string) (header, error) {
	file, err := os.Open(path)
	if err != nil {
		return header{}, fmt.Errorf("open the model: %w", err)
	}
	defer func() { _ = file.Close() }()
	return decodeHeader(file)
}

func decodeHeader(in io.Reader) (header, error) {
	r := &ggufReader{in: bufio.NewReaderSize(io.LimitReader(in, maxHead), 1<<16)}
	magic := string(r.bytes(4))
	version := r.u32()
	_ = r.u64() // number of tensors
	pairs := r.u64()
	switch {
	case r.err != nil || magic != ggufMagic:
		return header{}, errNotGGUF
	case version < 2 || version > 3:
		return header{}, fmt.Errorf("%w of version 2 or 3", errNotGGUF)
	case pairs > maxPairs:
		return header{}, fmt.Errorf("%w: it claims %d settings", errNotGGUF, pairs)
	}
	h := header{}
	contexts := map[string]uint64{}
	for range pairs {
		key := r.text(maxKey)
		kind := r.u32()
		switch {
		case key == "general.architecture" && kind == typeString:
			h.Architecture = r.text(maxKey)
		case key == "tokenizer.chat_template" && kind == typeString:
			h.Template = r.skipText() > 0
		case strings.HasSuffix(key, ".context_length") && (kind == typeU32 || kind == typeU64):
			contexts[strings.TrimSuffix(key, ".context_length")] = r.unsigned(kind)
		default:
			r.skip(kind, 0)
		}
		if r.err != nil {
			return header{}, fmt.Errorf("%w: its head is cut off or damaged", errNotGGUF)
		}
	}
	h.Context = contexts[h.Architecture]
	return h, nil
}

// The types of values that matter by name.
const (
	typeU32    = 4
	typeString = 8
	typeArray  = 9
	typeU64    = 10
)

// widths are the sizes of the other types, in bytes.
var widths = map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// ggufReader reads values until the first error, which it keeps.
type ggufReader struct {
	in     *bufio.Reader
	err    error
	number [8]byte // the one that is read: a vocabulary has a hundred thousand of them
}

func (r *ggufReader) bytes(n int) []byte {
	data := make([]byte, n)
	if r.err == nil {
		_, r.err = io.ReadFull(r.in, data)
	}
	return data
}

func (r *ggufReader) u32() uint32 { return binary.LittleEndian.Uint32(r.digits(4)) }
func (r *ggufReader) u64() uint64 { return binary.LittleEndian.Uint64(r.digits(8)) }

// digits reads the n bytes of a number; they are zero after an error, and good until
// the next number.
func (r *ggufReader) digits(n int) []byte {
	data := r.number[:n]
	clear(data)
	if r.err == nil {
		if _, r.err = io.ReadFull(r.in, data); r.err != nil {
			clear(data)
		}
	}
	return data
}

// unsigned reads a number of either width.
func (r *ggufReader) unsigned(kind uint32) uint64 {
	if kind == typeU32 {
		return uint64(r.u32())
	}
	return r.u64()
}

func (r *ggufReader) text(limit uint64) string {
	n := r.u64()
	if n > limit {
		r.fail()
		return ""
	}
	return string(r.bytes(int(n)))
}

func (r *ggufReader) fail() {
	if r.err == nil {
		r.err = io.ErrUnexpectedEOF
	}
}

func (r *ggufReader) discard(n uint64) {
	if n > maxHead {
		r.fail()
		return
	}
	if r.err == nil {
		_, r.err = r.in.Discard(int(n))
	}
}

// skipText passes over a text and returns its length in bytes.
func (r *ggufReader) skipText() uint64 {
	n := r.u64()
	r.discard(n)
	return n
}

// skip passes over a value.
func (r *ggufReader) skip(kind uint32, depth int) {
	width, fixed := widths[kind]
	switch {
	case r.err != nil:
	case fixed:
		r.discard(uint64(width))
	case kind == typeString:
		r.skipText()
	case kind == typeArray:
		r.skipArray(depth + 1)
	default:
		r.fail()
	}
}

func (r *ggufReader) skipArray(depth int) {
	kind, n := r.u32(), r.u64()
	if n > maxItems || depth > maxNesting {
		r.fail()
		return
	}
	if width, fixed := widths[kind]; fixed {
		r.discard(n * uint64(width))
		return
	}
	for range n {
		if r.err != nil {
			return
		}
		r.skip(kind, depth)
	}
}
