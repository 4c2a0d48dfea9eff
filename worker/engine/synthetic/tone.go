package synthetic

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

const (
	sampleRate = 22050 // also the number of samples: the tone lasts one second
	headerSize = 44
)

// tone makes one second of a sine as a WAV file, 16 bit and mono. Its pitch,
// 220 to 880 Hz, follows from the text (protocol spec §4.4).
func tone(text string) []byte {
	const (
		size = sampleRate * 2
		peak = 0.4 * math.MaxInt16
		fade = sampleRate / 50 // samples; without it, start and end would click
	)
	sum := sha256.Sum256([]byte(text))
	hertz := 220 + float64(660*float64(sum[0])/255)

	wav := make([]byte, 0, headerSize+size)
	wav = append(wav, "RIFF"...)
	wav = binary.LittleEndian.AppendUint32(wav, headerSize-8+size)
	wav = append(wav, "WAVEfmt "...)
	wav = binary.LittleEndian.AppendUint32(wav, 16)           // length of this part
	wav = binary.LittleEndian.AppendUint16(wav, 1)            // PCM
	wav = binary.LittleEndian.AppendUint16(wav, 1)            // mono
	wav = binary.LittleEndian.AppendUint32(wav, sampleRate)   //
	wav = binary.LittleEndian.AppendUint32(wav, sampleRate*2) // bytes a second
	wav = binary.LittleEndian.AppendUint16(wav, 2)            // bytes a sample
	wav = binary.LittleEndian.AppendUint16(wav, 16)           // bits a sample
	wav = append(wav, "data"...)
	wav = binary.LittleEndian.AppendUint32(wav, size)
	for i := range sampleRate {
		loud := min(1, float64(i)/fade, float64(sampleRate-1-i)/fade)
		turn := float64(hertz*float64(i)) / sampleRate
		value := float64(peak*loud) * math.Sin(2*math.Pi*turn)
		wav = binary.LittleEndian.AppendUint16(wav, uint16(int16(math.Round(value))))
	}
	return wav
}
