package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// jsonLimit is the size of a JSON result in bytes: it must fit into one frame
// (16 MiB), together with its envelope.
const jsonLimit = 15 << 20

// checkResult looks at what an engine claims to have made, before anybody
// sends it: an engine can exit well and leave nothing, or the wrong thing.
func checkResult(req Request, res Result) error {
	wantJSON := req.Kind == KindLLM || req.Kind == KindSTT
	if (res.Ext == "json") != wantJSON {
		return fmt.Errorf("a result of kind %s cannot be %q", req.Kind, res.Ext)
	}
	if res.JSON != "" {
		switch {
		case res.File != "":
			return fmt.Errorf("both file %q and text are the result", res.File)
		case !wantJSON:
			return fmt.Errorf("a result of kind %s must be a file", req.Kind)
		}
		return checkJSON([]byte(res.JSON))
	}
	if res.File == "" || !filepath.IsLocal(res.File) || filepath.Base(res.File) != res.File || strings.ContainsAny(res.File, `/\`) {
		return fmt.Errorf("result file name %q is not a plain name", res.File)
	}
	root, err := os.OpenRoot(req.Dir)
	if err != nil {
		return fmt.Errorf("check result: %w", err)
	}
	defer func() { _ = root.Close() }()
	info, err := root.Lstat(res.File)
	if err != nil {
		return fmt.Errorf("ended well but left no result: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("result %s is not a regular file", res.File)
	}
	if info.Size() == 0 {
		return fmt.Errorf("result %s is empty", res.File)
	}
	file, err := root.Open(res.File)
	if err != nil {
		return fmt.Errorf("check result: %w", err)
	}
	defer func() { _ = file.Close() }()
	if wantJSON {
		data, err := io.ReadAll(io.LimitReader(file, jsonLimit+1))
		if err != nil {
			return fmt.Errorf("check result: %w", err)
		}
		return checkJSON(data)
	}
	return checkMagic(file, res)
}

// checkJSON tells whether the data is one JSON object.
func checkJSON(data []byte) error {
	if len(data) > jsonLimit {
		return fmt.Errorf("result is longer than %d bytes", jsonLimit)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) || !json.Valid(data) {
		return errors.New("result is not a JSON object")
	}
	return nil
}

// checkMagic tells whether the first bytes are those of the format that the
// result claims.
func checkMagic(r io.Reader, res Result) error {
	head := make([]byte, 12)
	n, err := io.ReadFull(r, head)
	if err != nil && n == 0 {
		return fmt.Errorf("check result: %w", err)
	}
	start, form := string(head[:min(n, 8)]), string(head[8:max(n, 8)])
	var ok bool
	switch res.Ext {
	case "png":
		ok = start == "\x89PNG\r\n\x1a\n"
	case "webp":
		ok = strings.HasPrefix(start, "RIFF") && form == "WEBP"
	case "wav":
		ok = strings.HasPrefix(start, "RIFF") && form == "WAVE"
	case "jpg":
		ok = strings.HasPrefix(start, "\xff\xd8\xff")
	case "bmp":
		ok = strings.HasPrefix(start, "BM")
	case "gif":
		ok = strings.HasPrefix(start, "GIF8")
	case "mp4", "m4a":
		ok = len(start) == 8 && start[4:] == "ftyp"
	case "webm":
		ok = strings.HasPrefix(start, "\x1a\x45\xdf\xa3")
	case "mp3": // a tag, or a frame of MPEG audio
		ok = strings.HasPrefix(start, "ID3") || len(start) > 1 && start[0] == 0xff && start[1]&0xe0 == 0xe0
	case "ogg", "opus":
		ok = strings.HasPrefix(start, "OggS")
	case "flac":
		ok = strings.HasPrefix(start, "fLaC")
	default:
		return fmt.Errorf("result format %q is not one this worker knows", res.Ext)
	}
	if !ok {
		return fmt.Errorf("result %s is not in %s format", res.File, res.Ext)
	}
	return nil
}
