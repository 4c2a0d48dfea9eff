// Package words says things in the person's language. The English text is the
// key; assets/translations holds the other languages and, for English, the forms
// that a number needs. What a language lacks is said in English. Numbers are
// written the language's way. A [Printer] is safe for concurrent use and never
// changes: a window that changes its language takes another one.
package words

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"

	"studioworker/assets"
)

// Key is an English text with the verbs of fmt. Only constants are keys: a test
// finds each of them in the source and looks for its translations.
type Key string

// The languages of the program, as a setting names them.
const (
	English = "en"
	German  = "de"
)

// Printer words keys in one language.
type Printer struct {
	language string
	printer  *message.Printer
}

// table is the text of one file: a key's wording, or its wordings by the plural
// form of the first argument.
type table map[Key]wording

// wording is one text or several by plural form; exactly one of both is set.
type wording struct {
	text  string
	forms map[string]string
}

// errWording says that a translation file has something else than wordings.
var errWording = errors.New("neither a text nor the forms of one")

// UnmarshalJSON implements json.Unmarshaler.
func (w *wording) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &w.text) == nil && w.text != "" {
		return nil
	}
	if json.Unmarshal(data, &w.forms) == nil && w.forms["other"] != "" {
		return nil
	}
	return fmt.Errorf("%w: %.80s", errWording, data)
}

// message gives the wording the way the catalog takes it.
func (w wording) message() catalog.Message {
	if w.forms == nil {
		return catalog.String(w.text)
	}
	var cases []any
	for _, form := range []string{"=0", "=1", "one", "other"} { // the first that fits counts
		if text, ok := w.forms[form]; ok {
			cases = append(cases, form, text)
		}
	}
	return plural.Selectf(1, "%d", cases...)
}

// read gives the embedded table of a language.
func read(lang string) (table, error) {
	data, err := assets.Translations.ReadFile("translations/" + lang + ".json")
	if err != nil {
		return nil, fmt.Errorf("read translations: %w", err)
	}
	var t table
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("read translations %s: %w", lang, err)
	}
	return t, nil
}

// New returns a printer for the first of the wanted languages that the program
// has, in BCP 47 ("de-AT"); English when it has none. It panics when an embedded
// table is unusable, which a test rules out.
func New(wanted ...string) *Printer {
	tags := []language.Tag{language.English, language.German} // the first is the fallback
	names := []string{English, German}
	_, at := language.MatchStrings(language.NewMatcher(tags), wanted...)
	c := catalog.NewBuilder(catalog.Fallback(language.English))
	t, err := read(names[at])
	for key, w := range t {
		err = errors.Join(err, c.Set(tags[at], string(key), w.message()))
	}
	if err != nil {
		panic(err) // embedded: the same on every machine
	}
	return &Printer{language: names[at], printer: message.NewPrinter(tags[at], message.Catalog(c))}
}

// Language is the language in use, [English] or [German].
func (p *Printer) Language() string { return p.language }

// T words a key.
func (p *Printer) T(key Key, args ...any) string { return p.printer.Sprintf(string(key), args...) }

// Number writes v with so many digits after the point, or comma.
func (p *Printer) Number(v float64, digits int) string {
	return p.printer.Sprintf("%.*f", digits, v)
}

// Inside makes a wording that stands alone fit for the inside of a line: English
// begins it small; in German the word may be a noun and stays.
func (p *Printer) Inside(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if p.language != English || size == 0 {
		return s
	}
	if second, _ := utf8.DecodeRuneInString(s[size:]); unicode.IsUpper(second) { // an abbreviation
		return s
	}
	return string(unicode.ToLower(first)) + s[size:]
}

// Join lists things: "a, b and c".
func (p *Printer) Join(things []string) string {
	if len(things) < 2 {
		return strings.Join(things, "")
	}
	last := len(things) - 1
	return p.T("%s and %s", strings.Join(things[:last], ", "), things[last])
}

// Hour is the time of day: "14:02".
func (p *Printer) Hour(t time.Time) string { return t.Format("15:04") }

// Weekday is the short name of a day: "Mon".
func (p *Printer) Weekday(d time.Weekday) string {
	return p.T([...]Key{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}[d])
}

// Date is day and month, with the year when year is set: "12 Mar 2025".
func (p *Printer) Date(t time.Time, year bool) string {
	month := p.T([...]Key{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}[t.Month()-1])
	if year {
		return p.T("%d %s %s", t.Day(), month, t.Format("2006"))
	}
	return p.T("%d %s", t.Day(), month)
}
