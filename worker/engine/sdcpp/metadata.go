package sdcpp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// format names the format of a picture by its first bytes, or nothing.
func format(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "png"
	case bytes.HasPrefix(data, []byte{0xff, 0xd8, 0xff}):
		return "jpg"
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return "webp"
	default:
		return ""
	}
}

// withoutMetadata returns a picture without the texts in it: the program writes
// the prompt and the names of the models there. The pixels stay as they are, and
// so does a picture whose parts cannot be told apart.
func withoutMetadata(data []byte, ext string) []byte {
	var clean []byte
	var ok bool
	switch ext {
	case "png":
		clean, ok = cleanPNG(data)
	case "jpg":
		clean, ok = cleanJPEG(data)
	case "webp":
		clean, ok = cleanWebP(data)
	}
	if !ok {
		return data
	}
	return clean
}

// cleanPNG drops the chunks with text.
func cleanPNG(data []byte) ([]byte, bool) {
	const signature, frame = 8, 12 // a chunk is length, name, body and sum
	clean := slices.Clone(data[:signature])
	for rest := data[signature:]; len(rest) > 0; {
		if len(rest) < frame {
			return nil, false
		}
		size := int64(binary.BigEndian.Uint32(rest)) + frame
		if size > int64(len(rest)) {
			return nil, false
		}
		switch string(rest[4:8]) {
		case "tEXt", "zTXt", "iTXt", "eXIf":
		default:
			clean = append(clean, rest[:size]...)
		}
		rest = rest[size:]
	}
	return clean, true
}

// cleanJPEG drops comments and the segments of applications, but not those that
// say how the colours are meant.
func cleanJPEG(data []byte) ([]byte, bool) {
	const (
		marker  = 0xff
		start   = 0xda // of the picture itself: the rest is copied
		app0    = 0xe0
		app1    = 0xe1 // Exif and XMP
		app2    = 0xe2 // colour profile
		app14   = 0xee // how colours are coded
		app15   = 0xef
		comment = 0xfe
	)
	clean := slices.Clone(data[:2])
	for rest := data[2:]; ; {
		if len(rest) < 4 || rest[0] != marker {
			return nil, false
		}
		kind := rest[1]
		if kind == start {
			return append(clean, rest...), true
		}
		size := int(binary.BigEndian.Uint16(rest[2:])) + 2
		if size < 4 || size > len(rest) {
			return nil, false
		}
		drop := kind == comment || kind >= app1 && kind <= app15 && kind != app2 && kind != app14 || kind == app0 && !isJFIF(rest[:size])
		if !drop {
			clean = append(clean, rest[:size]...)
		}
		rest = rest[size:]
	}
}

func isJFIF(segment []byte) bool {
	return len(segment) > 8 && strings.HasPrefix(string(segment[4:]), "JFIF")
}

// cleanWebP drops Exif and XMP, and the flags that announce them.
func cleanWebP(data []byte) ([]byte, bool) {
	const header, frame = 12, 8
	const exifFlag, xmpFlag = 0x08, 0x04
	if int64(binary.LittleEndian.Uint32(data[4:]))+frame != int64(len(data)) {
		return nil, false
	}
	clean := slices.Clone(data[:header])
	for rest := data[header:]; len(rest) > 0; {
		if len(rest) < frame {
			return nil, false
		}
		size := int64(binary.LittleEndian.Uint32(rest[4:]))
		size += frame + size%2 // bodies have an even length
		if size > int64(len(rest)) {
			return nil, false
		}
		switch name := string(rest[:4]); {
		case name == "EXIF" || name == "XMP ":
		case name == "VP8X" && size > frame:
			chunk := slices.Clone(rest[:size])
			chunk[frame] &^= exifFlag | xmpFlag
			clean = append(clean, chunk...)
		default:
			clean = append(clean, rest[:size]...)
		}
		rest = rest[size:]
	}
	binary.LittleEndian.PutUint32(clean[4:], uint32(len(clean)-frame))
	return clean, true
}
