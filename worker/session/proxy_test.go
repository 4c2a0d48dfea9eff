package session

import (
	"strings"
	"testing"

	"studioworker/worker/network"
	"studioworker/worker/network/networktest"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/session/sessiontest"
)

// TestSessionThroughAProxy: a whole session through an https proxy with a name
// and a password, to a studio whose name only the proxy knows.
func TestSessionThroughAProxy(t *testing.T) {
	f := setup(t)
	authority := networktest.NewAuthority(t, "Harbour CA")
	proxy := networktest.NewProxy(t, f.studio.Server.Listener.Addr().String(), "ada:p/w", authority)
	t.Setenv("HTTP_PROXY", "https://ada:p%2Fw@"+proxy.Server.Listener.Addr().String())
	t.Setenv("NO_PROXY", "")
	n, err := network.New(network.Config{CAFile: authority.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Session.Dial = n.Dial
	f.cfg.Credentials = func() (Credentials, error) {
		base, err := protocol.ParseBase("http://studio.invalid")
		return Credentials{Base: base, WorkerID: "wk-20", Token: "tok-secret"}, err
	}
	f.start(t)
	c := f.studio.Welcome(t)
	f.state(t, observe.SessionConnected)
	c.Send(t, offer("job-1"))
	sessiontest.Await(t, c, func(d protocol.CompleteJSON) bool { return d.JobID == "job-1" })
	if asked := proxy.Asked(); len(asked) != 1 || asked[0] != "CONNECT studio.invalid:80" {
		t.Errorf("the proxy was asked %q", asked)
	}
	c.Close(t, protocol.CloseNormal, "")
	f.studio.Welcome(t)
	if asked := proxy.Asked(); len(asked) != 2 {
		t.Errorf("the proxy was asked %q", asked)
	}
	if text := f.text.String(); strings.Contains(text, "p/w") || strings.Contains(text, "p%2Fw") {
		t.Errorf("the proxy's password is in the log:\n%s", text)
	}
}
