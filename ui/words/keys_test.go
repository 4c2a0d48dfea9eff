package words

import (
	"cmp"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source type-checks the packages of the window, as far as the keys need it: our
// own packages are read, all others are empty, and what is missing because of
// that is no matter.
type source struct {
	files    *token.FileSet
	packages map[string]*types.Package
	info     *types.Info
	parsed   []*ast.File
	calls    map[token.Pos]bool // where a key stands in a call of T
}

const self = "studioworker/ui/words"

// Import implements types.Importer.
func (s *source) Import(name string) (*types.Package, error) {
	if p := s.packages[name]; p != nil {
		return p, nil
	}
	dir, ours := strings.CutPrefix(name, "studioworker/ui")
	if !ours {
		p := types.NewPackage(name, path.Base(name))
		p.MarkComplete()
		s.packages[name] = p
		return p, nil
	}
	return s.read(filepath.Join("..", filepath.FromSlash(dir)), name)
}

func (s *source) read(dir, name string) (*types.Package, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parsed []*ast.File
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.files, filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, f)
		s.parsed = append(s.parsed, f)
		ast.Inspect(f, s.call)
	}
	conf := types.Config{Importer: s, Error: func(error) {}}
	p, _ := conf.Check(name, s.files, parsed, s.info) // the empty packages make errors
	s.packages[name] = p
	return p, nil
}

// call notes the literal that a call of T begins with.
func (s *source) call(n ast.Node) bool {
	if c, ok := n.(*ast.CallExpr); ok && len(c.Args) > 0 {
		if f, ok := c.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "T" {
			s.calls[c.Args[0].Pos()] = true
		}
	}
	return true
}

// readWindow reads all packages of the window.
func readWindow(t *testing.T) *source {
	t.Helper()
	s := &source{
		files: token.NewFileSet(), packages: map[string]*types.Package{},
		info:  &types.Info{Types: map[ast.Expr]types.TypeAndValue{}},
		calls: map[token.Pos]bool{},
	}
	err := filepath.WalkDir("..", func(dir string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if e.Name() == "testdata" {
			return fs.SkipDir
		}
		_, err = s.Import(path.Join("studioworker/ui", strings.TrimPrefix(filepath.ToSlash(dir), "..")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keys finds every constant of type Key in the window's packages, and where.
func keys(t *testing.T) map[Key]token.Position {
	t.Helper()
	s := readWindow(t)
	found, at := map[Key]token.Position{}, map[token.Pos]bool{}
	for expr, tv := range s.info.Types {
		named, ok := tv.Type.(*types.Named)
		if !ok || named.Obj().Name() != "Key" || named.Obj().Pkg().Path() != self {
			continue
		}
		if tv.Value == nil || tv.Value.Kind() != constant.String {
			if _, call := expr.(*ast.CallExpr); call {
				t.Errorf("%s: a key is made of a text that is no constant", s.files.Position(expr.Pos()))
			}
			continue
		}
		found[Key(constant.StringVal(tv.Value))] = s.files.Position(expr.Pos())
		at[expr.Pos()] = true
	}
	for pos := range s.calls { // what the empty packages may hide
		p := s.files.Position(pos)
		known := at[pos] || slices.ContainsFunc(slices.Collect(maps.Keys(s.info.Types)), func(e ast.Expr) bool {
			return e.Pos() == pos && types.TypeString(s.info.Types[e].Type, nil) == self+".Key"
		})
		if !known {
			t.Errorf("%s: the type of this call of T is unknown: give the printer a name of its own", p)
		}
	}
	delete(found, "")
	return found
}

// verb is a verb of fmt, with the number of its argument in group 1.
var verb = regexp.MustCompile(`%(?:\[(\d+)\])?[-+# 0]*(?:\d+|\*)?(?:\.\d+|\.\*)?([a-zA-Z%])`)

// verbs gives which verb each argument gets, whatever their order in the text.
func verbs(text string) map[string]string {
	got, next := map[string]string{}, 1
	for _, m := range verb.FindAllStringSubmatch(text, -1) {
		if m[2] == "%" {
			continue
		}
		n := m[1]
		if n == "" {
			n = string(rune('0' + next))
		}
		next = int(n[0]-'0') + 1
		got[n] = m[2]
	}
	return got
}

// TestEveryKeyIsTranslated: German has each key and no other, English only those
// that a number changes, and every wording takes the arguments of its key.
func TestEveryKeyIsTranslated(t *testing.T) {
	used := keys(t)
	if len(used) < 100 {
		t.Fatalf("only %d keys found: the search does not work", len(used))
	}
	german, err := read(German)
	if err != nil {
		t.Fatal(err)
	}
	english, err := read(English)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.SortedFunc(maps.Keys(used), func(a, b Key) int { return cmp.Compare(a, b) }) {
		if _, ok := german[key]; !ok {
			t.Errorf("%s: German lacks %q", used[key], key)
		}
	}
	for name, tab := range map[string]table{German: german, English: english} {
		for key, w := range tab {
			if _, ok := used[key]; !ok {
				t.Errorf("%s: nothing uses %q", name, key)
			}
			if name == English && w.forms == nil {
				t.Errorf("English words %q otherwise than it is written", key)
			}
			texts := []string{w.text}
			if w.forms != nil {
				texts = slices.Collect(maps.Values(w.forms))
			}
			for _, text := range texts {
				if !maps.Equal(verbs(text), verbs(string(key))) {
					t.Errorf("%s: %q and %q take other arguments", name, key, text)
				}
				if strings.Contains(text, " ") && strings.HasSuffix(text, ".") != strings.HasSuffix(string(key), ".") {
					t.Errorf("%s: %q and %q do not both end in a full stop", name, key, text)
				}
			}
			for form := range w.forms {
				if form != "one" && form != "other" && form != "=0" && form != "=1" {
					t.Errorf("%s: %q has the unknown form %q", name, key, form)
				}
			}
		}
	}
	// A counted thing needs its forms in every language.
	for key := range english {
		if german[key].forms == nil {
			t.Errorf("German has one form of %q, English several", key)
		}
	}
}

// A text for people is of several words, or one word that begins large.
var forPeople = regexp.MustCompile(`\pL\pL+[,.:;!?]? \pL|^\p{Lu}\p{Ll}+(\W|$)`)

// plain are texts that look like words for people and stay as they are in every
// language: names, and what programs say to each other.
var plain = map[string]string{
	"Studio Worker":                  "the program's name",
	"English":                        "a language calls itself so",
	"Deutsch":                        "a language calls itself so",
	"Downloads":                      "a folder",
	"IsStatusNotifierHostRegistered": "a name of D-Bus",
	"RegisteredStatusNotifierItems":  "a name of D-Bus",
	"NameOwnerChanged":               "a name of D-Bus",
	"true or false":                  "a sort of the config",
	"whole number":                   "a sort of the config",
}

// silent are the calls whose texts are for who reads errors and logs: what the window
// shows of an error gets its meaning from the catalogue first.
var silent = map[string]bool{
	"errors.New": true, "fmt.Errorf": true,
	"Debug": true, "Info": true, "Warn": true, "Error": true,
}

// called is the name of a function as silent has it.
func called(c *ast.CallExpr) (qualified, name string) {
	f, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	if p, ok := f.X.(*ast.Ident); ok {
		qualified = p.Name + "." + f.Sel.Name
	}
	return qualified, f.Sel.Name
}

// bypasses finds literals of a file that look like a text for people and are no keys.
func bypasses(f *ast.File, isKey func(ast.Node) bool) []*ast.BasicLit {
	var found []*ast.BasicLit
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.CallExpr:
			qualified, name := called(n)
			return !silent[qualified] && !silent[name]
		case *ast.Field:
			return n.Tag == nil
		case *ast.BasicLit:
			if n.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(n.Value)
			if err == nil && plain[text] == "" && forPeople.MatchString(text) && !isKey(n) {
				found = append(found, n)
			}
		}
		return true
	})
	return found
}

// TestNoWordsPastTheCatalogue: what the window shows is a key.
func TestNoWordsPastTheCatalogue(t *testing.T) {
	s := readWindow(t)
	type span struct{ from, to token.Pos }
	var known []span
	for expr, tv := range s.info.Types {
		if types.TypeString(tv.Type, nil) == self+".Key" {
			known = append(known, span{expr.Pos(), expr.End()})
		}
	}
	for pos := range s.calls {
		known = append(known, span{pos, pos + 1})
	}
	slices.SortFunc(known, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	isKey := func(n ast.Node) bool {
		return slices.ContainsFunc(known, func(k span) bool { return k.from <= n.Pos() && n.Pos() < k.to })
	}
	for _, f := range s.parsed {
		if f.Name.Name == "main" {
			continue // a window to compare ours with
		}
		for _, literal := range bypasses(f, isKey) {
			t.Errorf("%s: %s is no key of the catalogue: say it with T, or name it among the plain ones", s.files.Position(literal.Pos()), literal.Value)
		}
	}
}

// TestBypassesAreFound: the search finds what it is there for, and no more.
func TestBypassesAreFound(t *testing.T) {
	const code = `package x
import "no such thing"
type a struct { b string ` + "`json:\"Big name\"`" + ` }
func f() {
	label.SetText("Nobody is here")
	button := widget.NewButton("Stop", nil)
	entry.PlaceHolder = "what you look for"
	_ = title + " of this week"
	errors.New("an error of ours")
	log.Warn("this is for the log", "key", "some value")
	name := "studio-worker.log"
	unit("GB")
}`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, literal := range bypasses(f, func(ast.Node) bool { return false }) {
		got = append(got, literal.Value)
	}
	want := []string{`"Nobody is here"`, `"Stop"`, `"what you look for"`, `" of this week"`}
	if !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}
