package ui

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/HugoSmits86/nativewebp"
)

// bomb is the head of a PNG that claims w by h pixels.
func bomb(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	head := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	head = append(binary.BigEndian.AppendUint32(head, h), 8, 6, 0, 0, 0)
	b = append(b, 0, 0, 0, 13)
	b = append(b, head...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
}

func webpOf(tb testing.TB, w, h int) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := nativewebp.Encode(&b, image.NewNRGBA(image.Rect(0, 0, w, h)), nil); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodePicture(t *testing.T) {
	for _, tc := range []struct {
		name  string
		data  []byte
		limit int
		want  image.Point
	}{
		{"small enough", pngOf(t, 30, 20, color.White), 40, image.Pt(30, 20)},
		{"wide", pngOf(t, 400, 100, color.White), 40, image.Pt(40, 10)},
		{"tall", pngOf(t, 10, 400, color.White), 40, image.Pt(1, 40)},
		{"a thread", pngOf(t, 400, 1, color.White), 40, image.Pt(40, 1)},
		{"webp", webpOf(t, 80, 40), 40, image.Pt(40, 20)},
	} {
		img, err := decodePicture(tc.data, tc.limit)
		if err != nil || img.Bounds().Size() != tc.want {
			t.Errorf("%s: got %v, %v", tc.name, img, err)
		}
	}
}

func TestDecodePictureRefuses(t *testing.T) {
	good := pngOf(t, 30, 20, color.White)
	for _, tc := range []struct {
		name string
		data []byte
		want error // nil: any
	}{
		{"nothing", nil, nil},
		{"text", []byte("<svg></svg>"), nil},
		{"cut off", good[:len(good)-30], nil},
		{"50 megapixels and one", bomb(50_000_001, 1), errPicturePixels},
		{"400 megapixels", bomb(20_000, 20_000), errPicturePixels},
		{"more than 32 bits of pixels", bomb(1<<31-1, 1<<31-1), nil},
	} {
		img, err := decodePicture(tc.data, 40)
		if err == nil || img != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, %v", tc.name, img, err)
		}
	}
}

func TestReadPicture(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.png")
	if err := os.WriteFile(path, pngOf(t, 30, 20, color.White), 0o600); err != nil {
		t.Fatal(err)
	}
	if img, err := readPicture(path, 40); err != nil || img.Bounds().Dx() != 30 {
		t.Errorf("got %v, %v", img, err)
	}
	if _, err := readPicture(filepath.Join(dir, "none"), 40); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := readPicture(dir, 40); err == nil {
		t.Error("a folder was read")
	}
	if err := os.Truncate(path, maxPictureBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readPicture(path, 40); !errors.Is(err, errPictureBytes) {
		t.Errorf("a huge file gives %v", err)
	}
	img, err := readOrDecode(pictureJob{path: path, data: pngOf(t, 8, 8, color.White), limit: 40})
	if err != nil || img.Bounds().Dx() != 8 {
		t.Errorf("the small picture does not stand in: %v, %v", img, err)
	}
}

func FuzzDecodePicture(f *testing.F) {
	f.Add(bomb(20_000, 20_000))
	f.Add(webpOf(f, 8, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := decodePicture(data, 16)
		if err != nil {
			return
		}
		if s := img.Bounds().Size(); s.X <= 0 || s.Y <= 0 || max(s.X, s.Y) > 16 {
			t.Errorf("size %v, want at most 16", s)
		}
	})
}

func TestLoaderTakesTheNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoader()
		var got []int
		for i := range loaderRoom + 3 { // three too many
			l.load(pictureJob{data: []byte("x"), done: func(_ image.Image, err error) {
				if !errors.Is(err, errDropped) {
					got = append(got, i)
				}
			}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(got) != loaderRoom || got[0] != loaderRoom+2 || got[len(got)-1] != 3 || !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) {
			t.Errorf("order = %v", got)
		}
	})
}
