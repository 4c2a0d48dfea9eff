package gpu

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/jaypipes/ghw"
)

// systemCards asks ghw. It knows Linux and Windows; elsewhere there is nothing to ask.
func systemCards() ([]Card, error) {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		return nil, nil
	}
	// ghw warns on stderr by default. Its topology is of no use here and costs memory.
	info, err := ghw.GPU(ghw.WithLogger(slog.New(slog.DiscardHandler)), ghw.WithDisableTopology())
	if err != nil {
		return nil, fmt.Errorf("ask for the graphics cards: %w", err)
	}
	var cards []Card
	for _, g := range info.GraphicsCards {
		card := Card{Address: g.Address}
		if d := g.DeviceInfo; d != nil {
			card.Driver = d.Driver
			if d.Product != nil {
				card.Name = d.Product.Name
			}
			if d.Vendor != nil {
				card.Vendor = d.Vendor.Name
			}
		}
		cards = append(cards, card)
	}
	return cards, nil
}
