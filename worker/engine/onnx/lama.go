package onnx

import (
	"image"
	"image/color"
	"math"

	"golang.org/x/image/draw"

	"studioworker/worker/engine/onnx/runtime"
)

// Numbers of LaMa (engines spec §6).
const (
	tensorSide = 512
	masked     = 128 // a mask is on above this
	leastCrop  = 256
	feather    = 4.0 // sigma of the edge, in pixels
	byteRange  = 2   // an output above this is 0 to 255 already
)

// scene is a picture and what is to be removed from it, both of one size.
type scene struct {
	base *image.RGBA // opaque
	mask *image.Gray
}

// newScene brings a picture and a mask to one size.
func newScene(picture, mask image.Image, width, height int) scene {
	to := image.Rect(0, 0, width, height)
	s := scene{image.NewRGBA(to), image.NewGray(to)}
	draw.BiLinear.Scale(s.base, to, opaque(picture), picture.Bounds(), draw.Src, nil)
	draw.BiLinear.Scale(s.mask, to, opaque(mask), mask.Bounds(), draw.Src, nil)
	return s
}

// opaque is a picture without its transparency: the colours stay.
func opaque(img image.Image) image.Image {
	if o, ok := img.(interface{ Opaque() bool }); ok && o.Opaque() {
		return img
	}
	box := img.Bounds()
	out := image.NewRGBA(box)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			if c, ok := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA); ok {
				out.SetRGBA(x, y, color.RGBA{R: c.R, G: c.G, B: c.B, A: 255})
			}
		}
	}
	return out
}

// crop is the part of the picture that the model sees: a square around the mask
// with some of its surroundings, or all of it.
func (s scene) crop() image.Rectangle {
	all := s.mask.Rect
	box := image.Rectangle{}
	for y := range all.Dy() {
		for x, v := range s.mask.Pix[y*s.mask.Stride : y*s.mask.Stride+all.Dx()] {
			if v > masked {
				box = box.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	width, height := all.Dx(), all.Dy()
	if box.Empty() || min(width, height) < leastCrop {
		return all
	}
	larger := max(box.Dx(), box.Dy())
	margin := int(math.Round(float64(larger)*0.25)) + 32
	side := min(max(larger+2*margin, leastCrop), min(width, height))
	if side >= width && side >= height {
		return all
	}
	x := min(max(box.Min.X+box.Dx()/2-side/2, 0), width-side)
	y := min(max(box.Min.Y+box.Dy()/2-side/2, 0), height-side)
	return image.Rect(x, y, x+side, y+side)
}

// tensors are what the model gets to see of a part of the picture.
func (s scene) tensors(part image.Rectangle) (picture, mask runtime.Tensor) {
	const plane = tensorSide * tensorSide
	to := image.Rect(0, 0, tensorSide, tensorSide)
	small, smallMask := image.NewRGBA(to), image.NewGray(to)
	draw.BiLinear.Scale(small, to, s.base, part, draw.Src, nil)
	draw.BiLinear.Scale(smallMask, to, s.mask, part, draw.Src, nil)
	picture = runtime.Tensor{Name: "image", Shape: []int64{1, 3, tensorSide, tensorSide}, Floats: make([]float32, 3*plane)}
	mask = runtime.Tensor{Name: "mask", Shape: []int64{1, 1, tensorSide, tensorSide}, Floats: make([]float32, plane)}
	for i := range plane {
		for c := range 3 {
			picture.Floats[c*plane+i] = float32(small.Pix[4*i+c]) / 255
		}
		if smallMask.Pix[i] > masked {
			mask.Floats[i] = 1
		}
	}
	return picture, mask
}

// pictureOf makes a picture of what the model answered.
func pictureOf(output []float32) *image.RGBA {
	const plane = tensorSide * tensorSide
	img := image.NewRGBA(image.Rect(0, 0, tensorSide, tensorSide))
	scale := float32(255)
	for _, v := range output[:3*plane] {
		if v > byteRange {
			scale = 1
			break
		}
	}
	for i := range plane {
		for c := range 3 {
			v := output[c*plane+i] * scale
			if !(v > 0) { // also not a number
				v = 0
			}
			img.Pix[4*i+c] = uint8(math.Round(float64(min(v, 255))))
		}
		img.Pix[4*i+3] = 255
	}
	return img
}

// blend puts what the model painted into the picture, through the mask with soft
// edges. Where the soft mask is 0, the picture stays as it is, byte for byte.
func (s scene) blend(fill *image.RGBA, part image.Rectangle) *image.RGBA {
	painted := image.NewRGBA(s.base.Rect)
	copy(painted.Pix, s.base.Pix)
	draw.BiLinear.Scale(painted, part, fill, fill.Rect, draw.Src, nil)
	soft := blur(s.mask)
	out := image.NewRGBA(s.base.Rect)
	for i, a := range soft.Pix {
		share := float64(a) / 255
		for c := range 3 {
			base, paint := float64(s.base.Pix[4*i+c]), float64(painted.Pix[4*i+c])
			out.Pix[4*i+c] = uint8(math.Round(float64(base*(1-share)) + float64(paint*share)))
		}
		out.Pix[4*i+3] = 255
	}
	return out
}

// blur is a Gaussian blur. Beyond the edge of the picture counts what is at it.
func blur(in *image.Gray) *image.Gray {
	const reach = int(3 * feather)
	var kernel [2*reach + 1]float64
	sum := 0.0
	for i := range kernel {
		d := float64(i - reach)
		kernel[i] = math.Exp(-d * d / (2 * feather * feather))
		sum += kernel[i]
	}
	width, height := in.Rect.Dx(), in.Rect.Dy()
	rows := make([]float32, width*height)
	for y := range height {
		row := in.Pix[y*in.Stride : y*in.Stride+width]
		for x := range width {
			v := 0.0
			for i, k := range kernel {
				v += k * float64(row[min(max(x+i-reach, 0), width-1)])
			}
			rows[y*width+x] = float32(v / sum)
		}
	}
	out := image.NewGray(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			v := 0.0
			for i, k := range kernel {
				v += k * float64(rows[min(max(y+i-reach, 0), height-1)*width+x])
			}
			out.SetGray(x, y, color.Gray{Y: uint8(math.Round(min(v/sum, 255)))})
		}
	}
	return out
}
