package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// plainID says whether a job id is a folder name as it is, on every system: no
// upper case (some systems ignore case), no dot (it parts the attempt), no "~"
// (it marks the other names).
func plainID(id string) bool {
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// deviceName matches what Windows takes for a device, whatever follows a dot.
var deviceName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])$`) })

// safeName turns any job id into a file name that is safe on every system. Two
// ids never share a name: one that is not plain is told by its hash.
func safeName(jobID string) string {
	if plainID(jobID) && (len(jobID) > 4 || !deviceName().MatchString(jobID)) {
		return jobID
	}
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, jobID[:min(len(jobID), 32)])
	sum := sha256.Sum256([]byte(jobID))
	return readable + "~" + hex.EncodeToString(sum[:16])
}

// entryName is the folder of one attempt at a job.
func entryName(jobID string, attempt int) string {
	return safeName(jobID) + "." + strconv.Itoa(attempt)
}
