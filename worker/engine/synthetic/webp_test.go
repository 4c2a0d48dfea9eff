package synthetic

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/image/webp"

	"studioworker/worker/engine"
)

// For prompt 243 the encoder alone writes what no decoder accepts.
func TestEveryPictureDecodes(t *testing.T) {
	for i := 240; i < 246; i++ {
		prompt := fmt.Sprint("prompt ", i)
		data, err := picture(t.Context(), prompt, defaultSide, defaultSide, "webp", func(engine.Progress) {})
		if err != nil {
			t.Fatalf("%s: %v", prompt, err)
		}
		if _, err := webp.Decode(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", prompt, err)
		}
	}
}
