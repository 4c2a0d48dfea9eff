package synthetic

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/image/webp"

	"studioworker/worker/engine"
)

// The encoder alone fails for about one picture in a hundred.
func TestEveryPictureDecodes(t *testing.T) {
	for i := range 400 {
		prompt := fmt.Sprint("prompt ", i)
		data, err := picture(t.Context(), prompt, 96, 64, "webp", func(engine.Progress) {})
		if err != nil {
			t.Fatalf("%s: %v", prompt, err)
		}
		if _, err := webp.Decode(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", prompt, err)
		}
	}
}
