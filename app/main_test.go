//go:build !windows

package app

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"studioworker/worker/engine/sdcpp/fakesd"
)

// What makes the test binary another program. The first is not passed on to
// engines; the second is, since its name is one that they may see.
const (
	programMode  = "STUDIO_WORKER_TEST_PROGRAM"
	deskVariable = "XDG_TEST_SPEECH_DESK" // address of the desk that a fake espeak-ng reports to
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == engineHost: // it sees nothing of our environment
		os.Exit(program())
	case os.Getenv(programMode) != "":
		os.Exit(program())
	case os.Getenv(fakesd.Variable) != "":
		os.Exit(fakesd.Main(os.Args[1:]))
	case os.Getenv(deskVariable) != "":
		// Not os.Exit: with the race detector that takes a second.
		syscall.Exit(fakeSpeech(os.Args[1:]))
	}
	// In the window build Fyne starts a goroutine when it is loaded. nats.go v1.55.0
	// leaves one behind when it is first scheduled after the Put that started it has
	// ended: it then waits on a channel that is nil.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(),
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// program is studio-worker itself, or a worker that is to be killed.
func program() int {
	streams := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	if os.Getenv(crashTrace) != "" {
		return crashProgram(context.Background(), os.Args[1], streams)
	}
	if message := os.Getenv(panicVariable); message != "" {
		streams.Err = &panicsAfter{w: streams.Err, line: "studio-worker starts", message: message}
	}
	CrashDSN = os.Getenv(dsnVariable)
	return Main(context.Background(), os.Args[1:], streams)
}

// dsnVariable stands for what a release stamps into the program.
const dsnVariable = "STUDIO_WORKER_TEST_CRASH_DSN"

// panicVariable makes the program panic in a goroutine of its own, with its value as the
// message, once the worker has started.
const panicVariable = "STUDIO_WORKER_TEST_PANIC"

// panicsAfter panics when a line has been written.
type panicsAfter struct {
	w             io.Writer
	line, message string
}

func (p *panicsAfter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), p.line) {
		go panic(p.message)
	}
	return p.w.Write(b)
}

// fakeSpeech is an espeak-ng that asks the desk before it speaks. The desk
// counts the runs, decides how long each takes, and numbers them; the number is
// in the sound.
func fakeSpeech(args []string) int {
	if slices.Equal(args, []string{"--voices"}) {
		fmt.Println("Pty Language Age/Gender VoiceName File Other")
		fmt.Println(" 2  en  --/M  English  gmw/en  (en 2)")
		return 0
	}
	if err := speak(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func speak(args []string) error {
	i := slices.Index(args, "-w")
	if i < 0 || i+1 >= len(args) {
		return errors.New("no -w")
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", os.Getenv(deskVariable))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the desk has heard everything
	text, err := os.ReadFile("text.txt")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%s\n", strings.TrimSpace(string(text))); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	return os.WriteFile(args[i+1], sound(number), 0o600)
}

// sound is a WAV that is different for each number, of a tenth of a second.
func sound(number int) []byte {
	const rate, samples = 22050, 2205
	wav := []byte("RIFF")
	wav = binary.LittleEndian.AppendUint32(wav, 36+2*samples)
	wav = append(wav, "WAVEfmt "...)
	wav = binary.LittleEndian.AppendUint32(wav, 16)
	for _, n := range []uint16{1, 1} { // PCM, mono
		wav = binary.LittleEndian.AppendUint16(wav, n)
	}
	wav = binary.LittleEndian.AppendUint32(wav, rate)
	wav = binary.LittleEndian.AppendUint32(wav, 2*rate)
	for _, n := range []uint16{2, 16} {
		wav = binary.LittleEndian.AppendUint16(wav, n)
	}
	wav = append(wav, "data"...)
	wav = binary.LittleEndian.AppendUint32(wav, 2*samples)
	for range samples {
		wav = binary.LittleEndian.AppendUint16(wav, uint16(number))
	}
	return wav
}
