package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Built tells whether this build can load the library.
const Built = built

// idleLimit is how long a helper waits for work before it ends (engines spec §6).
const idleLimit = 5 * time.Minute

// The words between a worker and its helper.
const (
	checkWord = "check" // load the library and say its version
	serveWord = "serve"
	readyWord = "ready"
)

// Serve is the helper's whole life. args are what follows the name of the hidden
// command: `check LIBRARY` prints the version of the library, `serve LIBRARY
// SOCKET` runs models until nobody has asked for five minutes.
func Serve(ctx context.Context, args []string, stdout io.Writer) (err error) {
	if len(args) < 2 {
		return errors.New("this command is for the worker itself")
	}
	lib, err := load(args[1])
	if err != nil {
		return fmt.Errorf("load the ONNX Runtime: %w", err)
	}
	defer func() { err = errors.Join(err, lib.close()) }()
	switch {
	case args[0] == checkWord:
		fmt.Fprintln(stdout, lib.version())
		return nil
	case args[0] != serveWord || len(args) != 3:
		return errors.New("this command is for the worker itself")
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: args[2], Net: "unix"})
	if err != nil {
		return fmt.Errorf("wait for the worker: %w", err)
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	fmt.Fprintln(stdout, readyWord)
	for ctx.Err() == nil {
		if err := listener.SetDeadline(time.Now().Add(idleLimit)); err != nil {
			return fmt.Errorf("wait for the worker: %w", err)
		}
		conn, err := listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the worker: %w", err)
		}
		if err := answer(conn, lib); err != nil {
			fmt.Fprintln(stdout, err) // the worker has gone away; it may come again
		}
	}
	return nil
}

// answer runs one model.
func answer(conn net.Conn, lib library) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	r := bufio.NewReaderSize(conn, 1<<16)
	var ask request
	if err := receive(r, &ask); err != nil {
		return err
	}
	inputs, err := receiveTensors(r, ask.Inputs)
	if err != nil {
		return err
	}
	var said reply
	outputs, err := lib.run(ask.Model, inputs, ask.Outputs)
	if err == nil {
		said.Outputs, err = partsOf(outputs)
	}
	if err != nil {
		said, outputs = reply{Error: err.Error()}, nil
	}
	return send(conn, said, outputs)
}

// library is a loaded library.
type library interface {
	version() string
	// run runs a model, which stays loaded until another one is asked for.
	run(model string, inputs []Tensor, outputs []string) ([]Tensor, error)
	close() error
}
