package inputs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // for DecodeConfig
	_ "image/jpeg" // for DecodeConfig
	"image/png"
	"io"
	"os"
	"strings"

	_ "golang.org/x/image/bmp" // for DecodeConfig
	"golang.org/x/image/tiff"
	_ "golang.org/x/image/webp" // for DecodeConfig
)

// Limits of a picture: a file of a megabyte may unfold to gigabytes.
const (
	maxPixels = 50_000_000
	maxSide   = 16_384
)

// nameImage gives a picture the extension of its real format and returns its
// path. The engine's programs choose their decoder by it, and addresses lie.
func nameImage(file, base string) (string, error) {
	format, err := inspect(file)
	if err != nil {
		return "", err
	}
	if format == "tiff" { // which the programs do not read
		return convertTIFF(file, base+".png")
	}
	if format == "jpeg" {
		format = "jpg"
	}
	named := base + "." + format
	if err := os.Rename(file, named); err != nil {
		return "", err
	}
	return named, nil
}

// inspect returns the format of a picture that is whole and not too large. It
// decodes no pixel.
func inspect(file string) (format string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	cfg, format, err := image.DecodeConfig(in)
	if err != nil {
		return "", fmt.Errorf("it is no picture that this worker reads (png, jpg, webp, gif, bmp, tif): %w", err)
	}
	if cfg.Width < 1 || cfg.Height < 1 {
		return "", errors.New("it has no pixels")
	}
	if cfg.Width > maxSide || cfg.Height > maxSide || int64(cfg.Width)*int64(cfg.Height) > maxPixels {
		return "", fmt.Errorf("it has %d x %d pixels; at most %d megapixels and %d on a side are taken",
			cfg.Width, cfg.Height, maxPixels/1_000_000, maxSide)
	}
	whole, err := isWhole(in, format)
	if err != nil {
		return "", err
	}
	if !whole {
		return "", errors.New("it is cut off")
	}
	return format, nil
}

// tailBytes is how much of a picture's end is looked at: some programs append a
// few bytes of their own.
const tailBytes = 4 << 10

// isWhole tells whether a picture has its end.
func isWhole(in *os.File, format string) (bool, error) {
	info, err := in.Stat()
	if err != nil {
		return false, err
	}
	head, tail := make([]byte, 12), make([]byte, min(tailBytes, info.Size()))
	if _, err := in.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if _, err := in.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch format {
	case "png":
		return bytes.Contains(tail, []byte("IEND")), nil
	case "jpeg":
		return bytes.Contains(tail, []byte{0xff, 0xd9}), nil
	case "gif":
		return bytes.IndexByte(tail, 0x3b) >= 0, nil
	case "webp":
		return int64(binary.LittleEndian.Uint32(head[4:]))+8 <= info.Size()+1, nil
	case "bmp":
		return int64(binary.LittleEndian.Uint32(head[2:])) <= info.Size(), nil
	default:
		return true, nil // decoded here, where a missing part is seen
	}
}

// convertTIFF writes a picture anew as PNG.
func convertTIFF(file, named string) (_ string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	picture, err := tiff.Decode(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("it cannot be decoded: %s", strings.TrimPrefix(err.Error(), "tiff: "))
	}
	out, err := os.OpenFile(named, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := errors.Join(encoder.Encode(out, picture), out.Close(), os.Remove(file)); err != nil {
		return "", errors.Join(err, os.Remove(named))
	}
	return named, nil
}
