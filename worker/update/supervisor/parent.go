package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Parent is the supervisor as its child sees it. The methods of a nil Parent do
// nothing: this process is not watched.
type Parent struct {
	installed string
	unasked   bool
	gone      chan struct{}

	mu   sync.Mutex
	tell *os.File
}

// Attach finds the supervisor of this process; nil when there is none. It is called
// once, before anything else is started.
func Attach() (*Parent, error) {
	pipes := os.Getenv(pipesVariable)
	p := &Parent{installed: os.Getenv(installedVariable), unasked: os.Getenv(unaskedVariable) != "", gone: make(chan struct{})}
	for _, name := range []string{pipesVariable, installedVariable, unaskedVariable} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("find the supervisor: %w", err)
		}
	}
	if pipes == "" {
		return nil, nil //nolint:nilnil // documented: there is none
	}
	first, second, _ := strings.Cut(pipes, ",")
	var files [2]*os.File
	for i, text := range []string{first, second} {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n < 3 {
			return nil, fmt.Errorf("find the supervisor: %q are not two pipes", pipes)
		}
		if files[i] = os.NewFile(uintptr(n), "supervisor"); files[i] == nil {
			return nil, fmt.Errorf("find the supervisor: pipe %d is not open", n)
		}
		inherited(files[i])
	}
	p.tell = files[0]
	go func() { // ends with the supervisor
		_, _ = files[1].Read(make([]byte, 1)) // nothing comes but the end
		close(p.gone)
	}()
	return p, nil
}

// Tell tells the supervisor. That it is gone is heard otherwise.
func (p *Parent) Tell(m Message) {
	if p == nil {
		return
	}
	line, err := json.Marshal(m)
	if err != nil || len(line) >= maxLine {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.tell.Write(append(line, '\n'))
}

// Gone is closed when this process is to stop, or its supervisor is gone.
func (p *Parent) Gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.gone
}

// Installed is the path of the installed program, which is what the system is to start.
func (p *Parent) Installed() string {
	if p == nil {
		return ""
	}
	return p.installed
}

// Unasked says that nobody waits to see this process.
func (p *Parent) Unasked() bool { return p != nil && p.unasked }
