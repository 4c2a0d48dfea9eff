package synthetic

import (
	"context"
	"crypto/sha256"
	"image"
	"image/color"
	"math"

	"studioworker/worker/engine"
)

const (
	// steps is the number of steps that a job reports: three of painting and
	// one of encoding.
	steps = 4
	// shades is the number of palette entries between two of the four colours.
	shades = 16
)

// draw paints the picture of a prompt: rings around a point, bent by a ripple,
// in four colours that SHA-256 of the prompt chooses. The same prompt and size
// give the same pixels. The explicit conversions keep the compiler from fusing
// operations, which would round differently on other processors.
func draw(ctx context.Context, prompt string, w, h int, progress func(engine.Progress)) (*image.Paletted, error) {
	sum := sha256.Sum256([]byte(prompt))
	img := image.NewPaletted(image.Rect(0, 0, w, h), palette(sum))
	unit := func(i int) float64 { return float64(sum[i]) / 255 }

	// Lengths are in units of the shorter side.
	scale := 1 / float64(min(w, h))
	centreX := float64(float64(w)*scale) * (0.3 + float64(0.4*unit(8)))
	centreY := float64(float64(h)*scale) * (0.3 + float64(0.4*unit(9)))
	rings := 2 + float64(3*unit(10)) // colour cycles per side
	bend := 0.02 + float64(0.03*unit(11))
	waveX := 3 + float64(9*unit(12))
	waveY := 3 + float64(9*unit(13))
	phase := unit(14)

	// The ripple is a sum of two waves, one along each axis.
	along := func(n int, wave, shift float64) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(bend * math.Sin(float64(wave*float64(float64(i)*scale))+shift))
		}
		return values
	}
	rippleX, rippleY := along(w, waveX, 2*math.Pi*phase), along(h, waveY, 0)

	colours := len(img.Palette)
	for y := range h {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if band := (h + steps - 2) / (steps - 1); y%band == 0 {
			progress(engine.Progress{Step: y / band, Total: steps, Text: "painting"})
		}
		dy := float64(float64(y)*scale) - centreY
		row := img.Pix[y*img.Stride : y*img.Stride+w]
		for x := range row {
			dx := float64(float64(x)*scale) - centreX
			distance := math.Sqrt(float64(dx*dx) + float64(dy*dy))
			cycles := float64((distance+rippleX[x]+rippleY[y])*rings) + phase
			cycles -= math.Floor(cycles)
			row[x] = uint8(min(int(float64(cycles*float64(colours))), colours-1))
		}
	}
	return img, nil
}

// palette makes a ring of shades between four colours: dark, middle and light
// ones of neighbouring hues, and an accent on the other side of the dark one.
func palette(sum [sha256.Size]byte) color.Palette {
	hue := float64(sum[0]) / 256
	turn := 0.05 + float64(0.06*float64(sum[1])/255) // how far neighbours are apart
	corners := [4][3]float64{
		colour(hue, 0.55, 0.15),
		colour(hue+turn, 0.58, 0.40),
		colour(hue+float64(2*turn), 0.72, 0.84),
		colour(hue+1-turn, 0.62, 0.56),
	}
	p := make(color.Palette, 0, len(corners)*shades)
	for i, from := range corners {
		to := corners[(i+1)%len(corners)]
		for s := range shades {
			share := float64(s) / shades
			mix := func(c int) uint8 {
				return uint8(math.Round(float64(from[c]*(1-share)) + float64(to[c]*share)))
			}
			p = append(p, color.RGBA{R: mix(0), G: mix(1), B: mix(2), A: 255})
		}
	}
	return p
}

// colour converts hue (in turns), saturation and lightness (0 to 1) to red,
// green and blue (0 to 255).
func colour(hue, saturation, lightness float64) [3]float64 {
	reach := float64(saturation * min(lightness, 1-lightness))
	channel := func(offset float64) float64 {
		k := math.Mod(offset+float64(12*hue), 12)
		return 255 * (lightness - float64(reach*max(-1, min(k-3, 9-k, 1))))
	}
	return [3]float64{channel(0), channel(8), channel(4)}
}
