package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"studioworker/studio"
	"studioworker/studio/client"
	"studioworker/worker/atomicfile"
	"studioworker/worker/config"
)

// privateStudio is a studio in this process, for this computer only. Its folder
// lies beside the config, and it keeps its loopback port from start to start.
type privateStudio struct {
	studio *studio.Studio
	client *client.Client
}

// privateDir is the folder of a config's private studio.
func privateDir(configPath string) string { return filepath.Join(filepath.Dir(configPath), "studio") }

func addressFile(dir string) string { return filepath.Join(dir, "address") }

// findPrivateStudio opens the private studio of a config, when the config points
// at it or must is set.
func findPrivateStudio(store *config.Store, must bool, log *slog.Logger) (*privateStudio, error) {
	dir := privateDir(store.Path())
	kept, err := os.ReadFile(addressFile(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the private studio's address: %w", err)
	}
	address := strings.TrimSpace(string(kept))
	if !must && (address == "" || store.Get().APIBaseURL != address) {
		return nil, nil
	}
	p, err := openPrivateStudio(dir, address, log)
	if err != nil {
		return nil, err
	}
	// Another program may have taken the port meanwhile: same studio, new address.
	if now := p.studio.Addr(); store.Get().APIBaseURL != now || !store.Chosen() {
		if err := store.Update(func(c *config.Config) { c.APIBaseURL = now }); err != nil {
			return nil, errors.Join(fmt.Errorf("save the private studio's address: %w", err), p.close())
		}
	}
	return p, nil
}

// openPrivateStudio opens the studio in dir at its kept address, or at a free
// loopback port.
func openPrivateStudio(dir, address string, log *slog.Logger) (*privateStudio, error) {
	listen := strings.TrimPrefix(address, "http://")
	if host, _, err := net.SplitHostPort(listen); err != nil || !net.ParseIP(host).IsLoopback() {
		listen = "127.0.0.1:0"
	}
	open := func(listen string) (*studio.Studio, error) {
		return studio.New(studio.Config{
			Data: dir, Listen: listen, AutoApprove: true, Version: Version, Log: log.With("category", "studio"),
		})
	}
	s, err := open(listen)
	if errors.Is(err, errAddressInUse) {
		s, err = open("127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	p := &privateStudio{studio: s}
	if p.client, err = client.New(s.Addr(), s.OperatorToken(), nil); err == nil {
		err = atomicfile.Write(addressFile(dir), []byte(s.Addr()+"\n"), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the private studio: %w", err), p.close())
	}
	return p, nil
}

// run serves until ctx ends.
func (p *privateStudio) run(ctx context.Context) error { return p.studio.Run(ctx) }

// close gives up a studio that was opened but will not run.
func (p *privateStudio) close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return p.studio.Run(ctx) // with an ended context it only closes what New opened
}

// tokenFile is where the studio with that data folder keeps its operator token.
func tokenFile(dir string) string { return filepath.Join(dir, "operator-token") }
