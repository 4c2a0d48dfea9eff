package studio

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultList = 100
	maxList     = 1000
	maxCursor   = 1024 // characters
)

// order is the direction of a list.
type order int

const (
	oldestFirst order = 1
	newestFirst order = -1
)

// place is the place of something in a list by time.
func place(at time.Time, id string) string { return fmt.Sprintf("%016x-%s", at.UnixNano(), id) }

// window reads which part of a list is wanted: at most limit of what comes after
// a place, empty for the start. A wrong wish is answered 400.
func window(w http.ResponseWriter, r *http.Request) (limit int, after string, ok bool) {
	limit = defaultList
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			writeError(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("limit must be 1 to %d", maxList))
			return 0, "", false
		}
		limit = n
	}
	text := r.URL.Query().Get("cursor")
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > maxCursor || (text != "" && len(data) == 0) {
		writeError(w, http.StatusBadRequest, "bad_request", "cursor must be the next of the page before")
		return 0, "", false
	}
	return limit, string(data), true
}

// cursor is what leads to the page after a place.
func cursor(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }

// listed answers a list that is sorted by at with its wanted part, each as view
// shows it, in the form that answer makes of that and the next cursor. A wrong
// wish is answered instead.
func listed[T, V any](w http.ResponseWriter, r *http.Request, all []T, at func(T) string, o order, view func(T) V, answer func(page []V, next string) any) {
	page, next, ok := pageOf(w, r, all, at, o)
	if !ok {
		return
	}
	rows := make([]V, 0, len(page)) // an empty list is no null
	for _, v := range page {
		rows = append(rows, view(v))
	}
	writeJSON(w, http.StatusOK, answer(rows, next))
}

// pageOf returns the wanted part of a list that is sorted by at, and the cursor
// of the next one, empty at the end. A cursor stays good when what it names is
// gone. A wrong wish is answered, and then ok is false.
func pageOf[T any](w http.ResponseWriter, r *http.Request, all []T, at func(T) string, o order) (page []T, next string, ok bool) {
	limit, after, ok := window(w, r)
	if !ok {
		return nil, "", false
	}
	start := 0
	if after != "" {
		start = slices.IndexFunc(all, func(v T) bool { return strings.Compare(at(v), after)*int(o) > 0 })
		if start < 0 {
			return nil, "", true
		}
	}
	page = all[start:min(len(all), start+limit)]
	if start+limit < len(all) {
		next = cursor(at(page[len(page)-1]))
	}
	return page, next, true
}
