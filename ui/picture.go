package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // formats that a result may have
	_ "image/png"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // what the worker makes of an image
)

// Bounds of the pictures we decode: a file that asks for more is refused before
// its pixels are touched.
const (
	maxPictureBytes  = 64 << 20
	maxPicturePixels = 50_000_000
	thumbnailPixels  = 96   // longer side in the list
	picturePixels    = 1280 // longer side in the detail
)

var (
	errPictureBytes  = errors.New("the file is larger than 64 MB")
	errPicturePixels = errors.New("the picture has more than 50 megapixels")
)

// decodePicture reads a PNG, JPEG or WebP picture and scales it down until its
// longer side is at most limit pixels.
func decodePicture(data []byte, limit int) (image.Image, error) {
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read picture: %w", err)
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || int64(cfg.Width)*int64(cfg.Height) > maxPicturePixels {
		return nil, errPicturePixels
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode picture: %w", err)
	}
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	if w <= 0 || h <= 0 {
		return nil, errors.New("decode picture: it is empty")
	}
	long := max(w, h)
	if long <= limit {
		return src, nil
	}
	dst := image.NewNRGBA(image.Rect(0, 0, max(1, w*limit/long), max(1, h*limit/long)))
	draw.ApproxBiLinear.Scale(dst, dst.Bounds(), src, src.Bounds(), draw.Src, nil)
	return dst, nil
}

// readPicture decodes the picture file at path.
func readPicture(path string, limit int) (image.Image, error) {
	f, err := os.Open(path) // #nosec G304 -- the worker's own result file
	if err != nil {
		return nil, fmt.Errorf("open picture: %w", err)
	}
	info, err := f.Stat()
	var data []byte
	switch {
	case err != nil:
	case info.Size() > maxPictureBytes:
		err = errPictureBytes
	default:
		data, err = io.ReadAll(io.LimitReader(f, maxPictureBytes)) // it may grow meanwhile
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read picture: %w", err)
	}
	return decodePicture(data, limit)
}

// pictureJob asks the loader for one picture: the first of path, small and data
// that there is and that can be read.
type pictureJob struct {
	path  string // of a file; may be empty
	small string // of a file; may be empty
	data  []byte
	limit int
	done  func(image.Image, error) // on the UI goroutine
}

// loader decodes pictures one after the other, away from the UI goroutine. The
// newest wish comes first: it is the one being looked at.
type loader struct {
	wake chan struct{}

	mu   sync.Mutex
	jobs []pictureJob
}

// loaderRoom bounds the waiting list: a page of thumbnails and a selection.
const loaderRoom = 64

func newLoader() *loader { return &loader{wake: make(chan struct{}, 1)} }

// load queues a job, dropping the oldest when the list is full. UI goroutine only.
func (l *loader) load(j pictureJob) {
	var over []pictureJob
	l.mu.Lock()
	if len(l.jobs) >= loaderRoom {
		over = append(over, l.jobs[0])
		l.jobs = slices.Delete(l.jobs, 0, 1)
	}
	l.jobs = append(l.jobs, j)
	l.mu.Unlock()
	for _, o := range over {
		o.done(nil, errDropped)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loader) next() (pictureJob, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.jobs) == 0 {
		return pictureJob{}, false
	}
	j := l.jobs[len(l.jobs)-1]
	l.jobs = l.jobs[:len(l.jobs)-1]
	return j, true
}

// readOrDecode gives a job's picture: of its file, or, when that is gone or
// unreadable, the small one that was made of it. The error is the first one.
func readOrDecode(j pictureJob) (img image.Image, err error) {
	for _, path := range []string{j.path, j.small} {
		if path == "" {
			continue
		}
		img, fault := readPicture(path, j.limit)
		if fault == nil {
			return img, nil
		}
		if err == nil {
			err = fault
		}
	}
	if len(j.data) > 0 {
		return decodePicture(j.data, j.limit)
	}
	return nil, err
}

// loaderRest is how long nobody wants a picture before the memory of those that went
// by is given back.
const loaderRest = time.Second

// Run decodes until ctx ends. Who leafs through many pictures leaves a multiple of what
// is shown as garbage, and the system would get it back only minutes later.
func (l *loader) Run(ctx context.Context) error {
	rest := time.NewTimer(loaderRest)
	defer rest.Stop()
	rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
			debug.FreeOSMemory()
			continue
		case <-l.wake:
		}
		rest.Reset(loaderRest)
		for ctx.Err() == nil {
			j, ok := l.next()
			if !ok {
				break
			}
			img, err := readOrDecode(j)
			onUI(ctx, func() { j.done(img, err) })
		}
	}
}
