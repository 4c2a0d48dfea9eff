// Command draw makes the PNG files of package assets. Run it with go generate
// in the folder assets after a change here.
package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"

	"golang.org/x/image/vector"
)

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

// write draws every picture into the folder dir.
func write(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	for name, img := range pictures() {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		if err := root.WriteFile(name, b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return root.Close()
}

// pictures draws all files by name. The colours are those of the dark palette:
// the badge brings its own dark ground, so that it reads on any panel.
func pictures() map[string]image.Image {
	ground := color.NRGBA{0x1C, 0x1F, 0x26, 0xFF}
	tray := func(c color.NRGBA, shape func(*pen)) image.Image {
		p := newPen(64)
		p.fill(ground, func() { p.rounded(0, 0, 24, 24, 5) })
		p.fill(c, func() { shape(p) })
		return p.img
	}
	return map[string]image.Image{
		"tray-idle.png": tray(color.NRGBA{0x4C, 0xC7, 0x9A, 0xFF}, func(p *pen) { p.circle(12, 6.5, false) }),
		"tray-busy.png": tray(color.NRGBA{0xF0, 0xB8, 0x4B, 0xFF}, func(p *pen) {
			p.polygon(7.5, 5, 19.5, 12, 7.5, 19)
		}),
		"tray-paused.png": tray(color.NRGBA{0x9A, 0xA7, 0xC2, 0xFF}, func(p *pen) {
			p.polygon(6.5, 5.5, 10.7, 5.5, 10.7, 18.5, 6.5, 18.5)
			p.polygon(13.3, 5.5, 17.5, 5.5, 17.5, 18.5, 13.3, 18.5)
		}),
		"tray-disconnected.png": tray(color.NRGBA{0xA7, 0xAF, 0xBE, 0xFF}, func(p *pen) {
			p.circle(12, 7, false)
			p.circle(12, 4.4, true)
		}),
		"tray-attention.png": tray(color.NRGBA{0xFF, 0x7B, 0x84, 0xFF}, func(p *pen) {
			p.polygon(9.8, 4, 14.2, 4, 13.5, 14, 10.5, 14)
			p.circle(17.8, 2.2, false)
		}),
		"icon.png": icon(ground),
	}
}

// icon draws a chip whose heart is the mark of a working computer.
func icon(ground color.NRGBA) image.Image {
	accent := color.NRGBA{0x7A, 0xB0, 0xFF, 0xFF}
	p := newPen(256)
	p.fill(ground, func() { p.rounded(0, 0, 24, 24, 5) })
	p.fill(accent, func() {
		for _, at := range []float32{8.2, 11.2, 14.2} { // the pins
			p.polygon(at, 3, at+1.6, 3, at+1.6, 21, at, 21)
			p.polygon(3, at, 21, at, 21, at+1.6, 3, at+1.6)
		}
	})
	p.fill(ground, func() { p.rounded(4.6, 4.6, 19.4, 19.4, 2.6) })
	p.fill(accent, func() { p.rounded(5.6, 5.6, 18.4, 18.4, 1.8) })
	p.fill(ground, func() { p.polygon(9.6, 8.2, 16.4, 12, 9.6, 15.8) })
	return p.img
}

// pen draws filled shapes on a square of 24 by 24 units.
type pen struct {
	img   *image.NRGBA
	r     *vector.Rasterizer
	scale float32
}

func newPen(px int) *pen {
	return &pen{
		img:   image.NewNRGBA(image.Rect(0, 0, px, px)),
		r:     vector.NewRasterizer(px, px),
		scale: float32(px) / 24,
	}
}

// fill paints the paths that trace adds, in one colour.
func (p *pen) fill(c color.NRGBA, trace func()) {
	b := p.img.Bounds()
	p.r.Reset(b.Dx(), b.Dy())
	p.r.DrawOp = draw.Over
	trace()
	p.r.Draw(p.img, b, image.NewUniform(c), image.Point{})
}

func (p *pen) moveTo(x, y float32) { p.r.MoveTo(x*p.scale, y*p.scale) }
func (p *pen) lineTo(x, y float32) { p.r.LineTo(x*p.scale, y*p.scale) }
func (p *pen) quadTo(bx, by, x, y float32) {
	p.r.QuadTo(bx*p.scale, by*p.scale, x*p.scale, y*p.scale)
}

func (p *pen) polygon(xy ...float32) {
	p.moveTo(xy[0], xy[1])
	for i := 2; i+1 < len(xy); i += 2 {
		p.lineTo(xy[i], xy[i+1])
	}
	p.r.ClosePath()
}

func (p *pen) rounded(x0, y0, x1, y1, r float32) {
	p.moveTo(x0+r, y0)
	p.lineTo(x1-r, y0)
	p.quadTo(x1, y0, x1, y0+r)
	p.lineTo(x1, y1-r)
	p.quadTo(x1, y1, x1-r, y1)
	p.lineTo(x0+r, y1)
	p.quadTo(x0, y1, x0, y1-r)
	p.lineTo(x0, y0+r)
	p.quadTo(x0, y0, x0+r, y0)
	p.r.ClosePath()
}

// circle traces a circle on the middle line, cy down; hole reverses it, which
// cuts it out of the shape around it.
func (p *pen) circle(cy, r float32, hole bool) {
	const (
		cx = 12
		k  = 0.5523 // the cubic that comes closest to a quarter of a circle
	)
	d := float32(1)
	if hole {
		d = -1
	}
	cube := func(bx, by, ex, ey, x, y float32) {
		s := p.scale
		p.r.CubeTo((cx+bx*r)*s, (cy+d*by*r)*s, (cx+ex*r)*s, (cy+d*ey*r)*s, (cx+x*r)*s, (cy+d*y*r)*s)
	}
	p.moveTo(cx+r, cy)
	cube(1, k, k, 1, 0, 1)
	cube(-k, 1, -1, k, -1, 0)
	cube(-1, -k, -k, -1, 0, -1)
	cube(k, -1, 1, -k, 1, 0)
	p.r.ClosePath()
}
