//go:build !windows

package supervisor

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

func startChild(tb testing.TB, mode string) (Child, *bytes.Buffer) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Setenv(childVariable, mode)
	tb.Setenv("NOTIFY_SOCKET", "/nowhere")
	tb.Setenv("WATCHDOG_PID", "1")
	var out bytes.Buffer
	c, err := Start(Command{Path: self, Installed: "/the/installed", Unasked: true, Stderr: &out})
	if err != nil {
		tb.Fatal(err)
	}
	return c, &out
}

func TestAProcessTellsAndIsStopped(t *testing.T) {
	c, out := startChild(t, "good")
	if m := <-c.Messages(); m != (Message{Kind: Opened, Results: 3}) {
		t.Errorf("the child tells %+v", m)
	}
	c.Stop()
	if m := <-c.Messages(); m != (Message{Kind: Ended}) {
		t.Errorf("the child tells %+v", m)
	}
	if m, ok := <-c.Messages(); ok {
		t.Errorf("the child tells %+v after its end", m)
	}
	if code := c.Wait(); code != 7 {
		t.Errorf("the child ended with %d: %s", code, out)
	}
}

func TestAProcessIsKilled(t *testing.T) {
	for _, hurry := range []bool{false, true} {
		c, out := startChild(t, "stubborn")
		<-c.Messages()
		c.Stop()
		if hurry {
			c.Hurry()
		} else {
			c.Kill()
		}
		if _, ok := <-c.Messages(); ok || c.Wait() != -1 {
			t.Errorf("the child ended with %d: %s", c.Wait(), out)
		}
	}
}

func TestNonsenseEndsAProcess(t *testing.T) {
	c, _ := startChild(t, "nonsense")
	if m, ok := <-c.Messages(); ok {
		t.Errorf("nonsense was taken for %+v", m)
	}
	if code := c.Wait(); code != -1 {
		t.Errorf("the child ended with %d", code)
	}
}

func TestWhatDoesNotStart(t *testing.T) {
	for _, path := range []string{"/nowhere/studio-worker", t.TempDir()} {
		if _, err := Start(Command{Path: path}); err == nil {
			t.Errorf("%s was started", path)
		}
	}
}

func TestReceive(t *testing.T) {
	var got []Message
	err := receive(strings.NewReader("{\"kind\":\"opened\",\"results\":2,\"new\":1}\n{\"kind\":\"later\"}\n"), func(m Message) { got = append(got, m) })
	if want := []Message{{Kind: Opened, Results: 2}, {Kind: "later"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"x\n", "[]\n", "{\"results\":-1}\n", "{\"text\":\"a\\u0000\"}\n", strings.Repeat(" ", maxLine+1) + "{}\n"} {
		if err := receive(strings.NewReader(text), func(Message) {}); err == nil {
			t.Errorf("%.20q was taken", text)
		}
	}
}

func TestAttach(t *testing.T) {
	if p, err := Attach(); p != nil || err != nil {
		t.Errorf("without a supervisor: %v, %v", p, err)
	}
	for _, pipes := range []string{"3", "a,b", "1,2", "3,", "-1,4", "99999999999,3"} {
		t.Setenv(pipesVariable, pipes)
		if p, err := Attach(); err == nil {
			t.Errorf("%q gives %v", pipes, p)
		}
		if _, there := os.LookupEnv(pipesVariable); there {
			t.Errorf("%q is left for the children", pipes)
		}
	}
	var nobody *Parent
	nobody.Tell(Message{Kind: Ended})
	if nobody.Gone() != nil || nobody.Installed() != "" || nobody.Unasked() {
		t.Error("nobody says something")
	}
}
