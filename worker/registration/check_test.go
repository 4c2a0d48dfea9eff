package registration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"studioworker/worker/observe"
)

func TestCheck(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the asker may hang up
		}
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    observe.StudioProblem // empty = a studio
	}{
		{"a studio does not know the request", answer(http.StatusNotFound, `{"error":"unknown_request"}`), ""},
		{"a studio wants a key", answer(http.StatusUnauthorized, `{"error":"unauthorized"}`), ""},
		{"a studio that says no in plain words", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == "/graphics/api/workers/register-request" {
				answer(http.StatusBadRequest, "installId is missing")(w, r)
				return
			}
			answer(http.StatusNotFound, "unknown")(w, r)
		}, ""},
		{"a web site", answer(http.StatusOK, "<html>hello</html>"), observe.StudioNoStudio},
		{"a web site without the page", answer(http.StatusNotFound, "<html>not found</html>"), observe.StudioNoStudio},
		{"a list", answer(http.StatusOK, `[]`), observe.StudioNoStudio},
		{"null", answer(http.StatusOK, `null`), observe.StudioNoStudio},
		{"a server that fails", answer(http.StatusBadGateway, `{}`), observe.StudioInTrouble},
		{"a server that hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, observe.StudioUnreachable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := httptest.NewServer(tc.handler)
			defer server.Close()
			check(t, server.Client(), server.URL, tc.want)
		})
	}
	gone := httptest.NewServer(answer(http.StatusOK, ""))
	gone.Close()
	check(t, http.DefaultClient, gone.URL, observe.StudioUnreachable)
	for _, address := range []string{"", "studio", "ftp://studio.example.org", "ws://127.0.0.1:1", "http://%zz"} {
		check(t, http.DefaultClient, address, observe.StudioBadAddress)
	}
	http.DefaultClient.CloseIdleConnections()
}

func check(t *testing.T, client *http.Client, address string, want observe.StudioProblem) {
	t.Helper()
	err := Check(t.Context(), client, "studio-worker/test", address)
	bad, ok := errors.AsType[*observe.StudioError](err)
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", address, err)
	case want != "" && (!ok || bad.Problem != want || bad.Address != address || bad.Error() == ""):
		t.Errorf("%s: got %v, want %s", address, err, want)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	if err := Check(ctx, server.Client(), "studio-worker/test", server.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
