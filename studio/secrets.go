package studio

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"studioworker/worker/atomicfile"
)

// minToken keeps a damaged or hand-made file from being a weak password.
const minToken = 20 // characters

// Files of tokens in the data folder.
const (
	operatorTokenFile = "operator-token"
	metricsTokenFile  = "metrics-token" // only reads /metrics
)

// readToken reads a token from the data folder, and makes one at the first
// start.
func readToken(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	called := "the " + strings.ReplaceAll(name, "-", " ")
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		token := newSecret()
		if err := atomicfile.Write(path, []byte(token+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("write %s: %w", called, err)
		}
		return token, nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", called, err)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("others on this computer can read %s; mend it with: chmod 600 %s", called, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", called, err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken || strings.ContainsAny(token, " \r\n\t") {
		return "", fmt.Errorf("%s in %s is damaged; remove the file to get a new one", called, path)
	}
	return token, nil
}

// newSecret returns a token of at least 256 bits of randomness.
func newSecret() string { return rand.Text() + rand.Text() }

// newID returns a random id that is safe in addresses and as a store key.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// hashed is what is stored of a secret.
func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// matches compares a secret with a stored hash in constant time. No secret
// matches an empty hash.
func matches(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(hashed(secret)), []byte(hash)) == 1
}

// bearer returns the token of the Authorization header, empty when there is
// none.
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
