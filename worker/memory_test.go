package worker

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"studioworker/worker/outbox"
)

// memoryFS is a file system in the memory of this process: what the outbox costs
// beside it is ours. Engines cannot write to its folders.
type memoryFS struct {
	mu   sync.Mutex
	root node
}

// node is a folder, or a file when children is nil.
type node struct {
	children map[string]*node
	data     []byte
}

func newMemory() *memoryFS { return &memoryFS{root: node{children: map[string]*node{}}} }

// find returns the node at path and the folder that holds it; a nil node is not
// there.
func (m *memoryFS) find(path string) (parent, at *node, name string) {
	at = &m.root
	for name = range strings.SplitSeq(strings.Trim(filepath.ToSlash(path), "/"), "/") {
		if at == nil {
			return nil, nil, name
		}
		parent, at = at, at.children[name]
	}
	return parent, at, name
}

func (m *memoryFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := &m.root
	for name := range strings.SplitSeq(strings.Trim(filepath.ToSlash(dir), "/"), "/") {
		next := at.children[name]
		if next == nil {
			next = &node{children: map[string]*node{}}
			at.children[name] = next
		}
		at = next
	}
	return nil
}

func (m *memoryFS) Mkdir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, at, name := m.find(dir)
	switch {
	case parent == nil:
		return fs.ErrNotExist
	case at != nil:
		return fs.ErrExist
	}
	parent.children[name] = &node{children: map[string]*node{}}
	return nil
}

func (m *memoryFS) OpenFile(dir, name string, flag int) (outbox.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, at, _ := m.find(filepath.Join(dir, name))
	switch {
	case parent == nil || at == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case at != nil && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case at == nil:
		at = new(node)
		parent.children[name] = at
	}
	return &memoryFile{m: m, at: at, read: bytes.NewReader(at.data)}, nil
}

func (m *memoryFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, at, _ := m.find(dir)
	if at == nil {
		return nil, fs.ErrNotExist
	}
	var list []fs.DirEntry
	for name, child := range at.children {
		list = append(list, fs.FileInfoToDirEntry(memoryInfo{name, child}))
	}
	return list, nil
}

func (m *memoryFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	source, moved, old := m.find(from)
	target, there, name := m.find(to)
	switch {
	case moved == nil || target == nil:
		return fs.ErrNotExist
	case there != nil && len(there.children) > 0:
		return syscall.ENOTEMPTY
	}
	delete(source.children, old)
	target.children[name] = moved
	return nil
}

func (m *memoryFS) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if parent, _, name := m.find(path); parent != nil {
		delete(parent.children, name)
	}
	return nil
}

func (m *memoryFS) SyncDir(string) error { return nil }

// memoryFile is an open file: it reads what was there when it was opened.
type memoryFile struct {
	m    *memoryFS
	at   *node
	read *bytes.Reader
}

func (f *memoryFile) Read(p []byte) (int, error) { return f.read.Read(p) }

func (f *memoryFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.at.data = append(f.at.data, p...)
	return len(p), nil
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return memoryInfo{"", f.at}, nil }
func (f *memoryFile) Sync() error                { return nil }
func (f *memoryFile) Close() error               { return nil }

type memoryInfo struct {
	name string
	at   *node
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return int64(len(i.at.data)) }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return i.at.children != nil }
func (i memoryInfo) Sys() any           { return nil }

func (i memoryInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
