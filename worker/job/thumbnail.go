package job

import (
	"bytes"
	"errors"
	"image"
	_ "image/gif"  // a format that engines produce
	_ "image/jpeg" // a format that engines produce
	"image/png"
	"os"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // a format that engines produce
)

// Bounds of a thumbnail (§9) and of what is decoded for one.
const (
	thumbnailSide = 384        // pixels of the longer side
	maxPixels     = 50_000_000 // larger pictures get no thumbnail: decoding them costs gigabytes
)

// thumbnail makes a small PNG of a picture.
func thumbnail(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- our own result
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	config, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, err
	}
	if config.Width < 1 || config.Height < 1 || config.Width > maxPixels/config.Height {
		return nil, errors.New("too many pixels for a thumbnail")
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	picture, _, err := image.Decode(f)
	if err != nil {
		return nil, err
	}
	size := picture.Bounds().Size()
	if longer := max(size.X, size.Y); longer > thumbnailSide {
		size = image.Pt(max(1, size.X*thumbnailSide/longer), max(1, size.Y*thumbnailSide/longer))
	}
	small := image.NewRGBA(image.Rectangle{Max: size})
	draw.CatmullRom.Scale(small, small.Bounds(), picture, picture.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if err := png.Encode(&out, small); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
