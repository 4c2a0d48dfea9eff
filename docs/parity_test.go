// Package docs holds the written documentation. Its tests hold the pages to the
// program: what a page names must exist.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// numbers lists the numbers from first to last without those that are excepted.
func numbers(first, last int, except ...int) []int {
	var list []int
	for n := first; n <= last; n++ {
		if !slices.Contains(except, n) {
			list = append(list, n)
		}
	}
	return list
}

// items are the items of the reference runtime that parity.md must place.
func items() []string {
	return strings.Fields(`
		CurrentJob HeartbeatStatus LoopSchedule RecentJob RegisterArgs WorkerObservers
		AutoUpdateDecision HeartbeatOutcome JobOutcome RegistrationGate
		AUTO_UPDATE_SHUTDOWN_TICK AUTO_UPDATE_TICK HEARTBEAT_INTERVAL LOG_SHIP_QUEUE_CAP PROMPT_PREVIEW_CHARS
		RECENT_JOBS_CAP RECENT_LOGS_CAP
		auto_update_tick build_capabilities build_capabilities_with check_update ensure_registered format_check_outcome
		format_status is_unsupported_kind log_startup_banner prompt_for push_log push_log_with_observers
		record_recent_job register request_shutdown restore_unshipped run run_loops set_threshold show_config
		spawn_auto_updater status summarize_capabilities truncate_prompt vram_threshold_warning`)
}

// TestParity: every symbol and every test that parity.md names exists, each test
// carries the number it stands for, and no item, behaviour or fault is left out.
func TestParity(t *testing.T) {
	page, err := os.ReadFile("parity.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range newChecker("..").check(string(page)) {
		t.Error(fault)
	}
	behaviours := numbers(1, 161)
	wanted := map[string][]string{"reference": items(), "§13": texts(behaviours), "fault": texts(numbers(1, 64))}
	// What a studio owes a worker: its duties (§3.13), and its side of §13.
	wanted["duty"] = texts(numbers(1, 13))
	wanted["studio's §13"] = strings.Fields("3 4 8 9 10 11 12 13 14 15 16 17 18 19 20 21 25 29 33 38 40 41 42 47 48 51 55 56 63 73 74 75 78 80 83 84 86 87 88 92 93 94")
	for column, want := range wanted {
		got := firstCells(string(page), column)
		for _, name := range want {
			if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != name })); n != 1 {
				t.Errorf("%s %s stands %d times in parity.md, want once", column, name, n)
			}
		}
	}
}

// TestCheckerBites: each wrong page is wrong in one way, and the fault says which.
func TestCheckerBites(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a.go": "package a\n\nconst Limit = 1\n\ntype T struct{ Field int }\n\nfunc (t *T) Do() {}\n\ntype I interface{ Ask() }\n\n" +
			"type G[E any] struct{ Kept E }\n\nfunc (g *G[E]) Add(E) {}\n\nfunc F() {}\n",
		"a/a_test.go": "package a\n\nimport \"testing\"\n\n// TestOne is #3.\nfunc TestOne(t *testing.T) {\n\tt.Run(\"row 7: full\", nil)\n}\n\n" +
			"func TestSpec005To008And010All(*testing.T) {}\n\nfunc TestFault12(*testing.T) {}\n\nfunc helper() { _ = \"row 9\" }\n\n" +
			"// TestMany is fault rows 20 to 22.\nfunc TestMany(*testing.T) {}\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reference := func(ours, test string) string {
		return "| reference | ours | test |\r\n| --- | --- | --- |\r\n| X | " + ours + " | " + test + " |\r\n"
	}
	row := func(column, n, test string) string {
		return "| " + column + " | what | test |\n| --- | --- | --- |\n| " + n + " | w | " + test + " |\n"
	}
	for name, tc := range map[string]struct{ page, want string }{
		"all kinds of symbols": {reference("`a.Limit`, `a.T`, `a.T.Field`, `a.T.Do`, `a.I.Ask`, `a.G.Add`, `a.G.Kept`, `a.F`", "`a.TestOne`"), ""},
		"subtest":              {row("fault", "7", "`a.TestOne/row 7: full`"), ""},
		"number in a range":    {row("§13", "7", "`a.TestSpec005To008And010All`"), ""},
		"number in a list":     {row("§13", "10", "`a.TestSpec005To008And010All`"), ""},
		"number in a comment":  {row("§13", "3", "`a.TestOne`"), ""},
		"fault in a name":      {row("fault", "12", "`a.TestFault12`"), ""},
		"rows in a comment":    {row("fault", "21", "`a.TestMany`"), ""},
		"said to be missing":   {row("fault", "9", "not yet: needs a proxy"), ""},
		"no such symbol":       {reference("`a.Nothing`", "`a.TestOne`"), "a.Nothing"},
		"no such method":       {reference("`a.T.Fly`", "`a.TestOne`"), "a.T.Fly"},
		"no such package":      {reference("`b.F`", "`a.TestOne`"), "b.F"},
		"outside the tree":     {reference("`../a.F`", "`a.TestOne`"), "../a.F"},
		"a test as symbol":     {reference("`a.TestOne`", "`a.TestOne`"), "a.TestOne"},
		"no symbol":            {reference("", "`a.TestOne`"), "ours is empty"},
		"no such test":         {reference("`a.F`", "`a.TestTwo`"), "a.TestTwo"},
		"a function as test":   {reference("`a.F`", "`a.helper`"), "a.helper"},
		"no such subtest":      {row("fault", "7", "`a.TestOne/row 7: empty`"), "row 7: empty"},
		"number of no test":    {row("§13", "11", "`a.TestSpec005To008And010All`"), "carries the number 11"},
		"row of another":       {row("fault", "8", "`a.TestOne`"), "carries the number 8"},
		"no test":              {row("§13", "3", "—"), "test is empty"},
		"a row too short":      {"| reference | ours | test |\n| --- | --- | --- |\n| X | `a.F` |\n", "2 cells, want 3"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := newChecker(dir).check(tc.page)
			switch {
			case tc.want == "" && len(faults) > 0:
				t.Errorf("got %q", faults)
			case tc.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tc.want)):
				t.Errorf("got %q, want one fault about %q", faults, tc.want)
			}
		})
	}
}

func texts(list []int) []string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n)
	}
	return words
}

// checker holds a page against the Go files below root.
type checker struct {
	root     string
	packages map[string]*folder
}

// folder is what one package declares.
type folder struct {
	symbols map[string]bool   // Name, Type.Method and Type.Field
	tests   map[string]string // test functions, with their comment and text
	strings map[string][]string
}

func newChecker(root string) *checker { return &checker{root: root, packages: map[string]*folder{}} }

// span is a piece of code in a cell.
var span = regexp.MustCompile("`([^`]+)`")

// check returns what is wrong with the tables of a page. Code in a column "ours"
// is a symbol (path.Name or path.Type.Member), code in a column "test" is a test
// (path.TestName or path.TestName/subtest). A cell without code must say
// "not yet". Where the first column is "§13" or "fault", a test must carry the
// number of the row.
func (c *checker) check(page string) []string {
	var faults []string
	for _, table := range tables(page) {
		header := table[0]
		ours, test := slices.Index(header, "ours"), slices.Index(header, "test")
		if ours < 0 && test < 0 {
			continue
		}
		for _, row := range table[1:] {
			if len(row) != len(header) {
				faults = append(faults, fmt.Sprintf("%v has %d cells, want %d", row, len(row), len(header)))
				continue
			}
			if ours >= 0 {
				faults = append(faults, c.symbols(row[0], row[ours])...)
			}
			if test >= 0 {
				faults = append(faults, c.tests(header[0], row[0], row[test])...)
			}
		}
	}
	return faults
}

func (c *checker) symbols(name, cell string) []string {
	var faults []string
	found := span.FindAllStringSubmatch(cell, -1)
	if len(found) == 0 && !strings.HasPrefix(cell, "not yet") {
		return []string{name + ": ours is empty"}
	}
	for _, m := range found {
		path, symbol, _ := strings.Cut(m[1], ".")
		if pkg := c.folder(path); pkg == nil || !pkg.symbols[symbol] {
			faults = append(faults, fmt.Sprintf("%s: there is no symbol %s", name, m[1]))
		}
	}
	return faults
}

func (c *checker) tests(kind, name, cell string) []string {
	var faults []string
	found := span.FindAllStringSubmatch(cell, -1)
	if len(found) == 0 {
		if strings.HasPrefix(cell, "not yet") {
			return nil
		}
		return []string{name + ": test is empty"}
	}
	carried := false
	for _, m := range found {
		path, symbol, _ := strings.Cut(m[1], ".")
		test, sub, isSub := strings.Cut(symbol, "/")
		pkg := c.folder(path)
		if pkg == nil || pkg.tests[test] == "" {
			faults = append(faults, fmt.Sprintf("%s: there is no test %s", name, m[1]))
			continue
		}
		if isSub && !slices.Contains(pkg.strings[test], sub) {
			faults = append(faults, fmt.Sprintf("%s: %s has no subtest %q", name, test, sub))
			continue
		}
		text := pkg.tests[test]
		if isSub {
			text = strconv.Quote(sub)
		}
		carried = carried || carries(kind, name, test, text)
	}
	if len(faults) == 0 && !carried {
		faults = append(faults, fmt.Sprintf("%s %s: none of its tests carries the number %s", kind, name, name))
	}
	return faults
}

var (
	// specName and rowName find the numbers in the name of a test.
	specName = regexp.MustCompile(`(?:Spec|And|To)(\d+)`)
	rowName  = regexp.MustCompile(`(?:Rows?|Fault|And|To)(\d+)`)
	// specText and rowText find them in its comments and subtests.
	specText = regexp.MustCompile(`#0*(\d+)\b|"0*(\d{3}) |[Ss]pec 0*(\d+)\b`)
	rowText  = regexp.MustCompile(`[Rr]ows? 0*(\d+)(?: to (\d+))?\b`)
)

// carries says whether a test stands for the number of a row of the table.
func carries(kind, number, test, text string) bool {
	name, inside := specName, specText
	switch kind {
	case "§13":
	case "fault":
		name, inside = rowName, rowText
	default:
		return true // nothing is numbered there
	}
	want, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	last := 0
	for _, m := range name.FindAllStringSubmatch(test, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return false
		}
		if n == want || strings.HasPrefix(m[0], "To") && last < want && want < n {
			return true
		}
		last = n
	}
	for _, m := range inside.FindAllStringSubmatch(text, -1) {
		if kind == "fault" && m[2] != "" {
			first, firstErr := strconv.Atoi(m[1])
			last, lastErr := strconv.Atoi(m[2])
			if firstErr == nil && lastErr == nil && first <= want && want <= last {
				return true
			}
			continue
		}
		if n, err := strconv.Atoi(strings.Join(m[1:], "")); err == nil && n == want {
			return true
		}
	}
	return false
}

// tables returns the tables of a page: rows of cells, the header first, without
// the line below it.
func tables(page string) [][][]string {
	var all [][][]string
	inside := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !inside:
			all = append(all, [][]string{cells})
			inside = true
		case strings.Trim(cells[0], "-: ") != "":
			last := len(all) - 1
			all[last] = append(all[last], cells)
		}
	}
	return all
}

// firstCells are the first cells of all tables whose first column has that name.
func firstCells(page, column string) []string {
	var cells []string
	for _, table := range tables(page) {
		if table[0][0] != column {
			continue
		}
		for _, row := range table[1:] {
			cells = append(cells, strings.Trim(row[0], "`"))
		}
	}
	return cells
}

// folder reads the Go files of one folder, whatever system they are for. It is
// nil when there are none.
func (c *checker) folder(path string) *folder {
	if pkg, ok := c.packages[path]; ok {
		return pkg
	}
	c.packages[path] = nil
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(c.root, filepath.FromSlash(path), "*.go"))
	if err != nil || len(names) == 0 {
		return nil
	}
	pkg := &folder{symbols: map[string]bool{}, tests: map[string]string{}, strings: map[string][]string{}}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil
		}
		isTest := strings.HasSuffix(name, "_test.go")
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && isTest {
				pkg.addTest(set, f, text)
			} else if !isTest {
				pkg.addSymbols(decl)
			}
		}
	}
	c.packages[path] = pkg
	return pkg
}

func (pkg *folder) addTest(set *token.FileSet, f *ast.FuncDecl, text []byte) {
	if f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Benchmark") {
		return
	}
	from := f.Pos()
	if f.Doc != nil {
		from = f.Doc.Pos()
	}
	pkg.tests[f.Name.Name] = string(text[set.Position(from).Offset:set.Position(f.End()).Offset])
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				pkg.strings[f.Name.Name] = append(pkg.strings[f.Name.Name], s)
			}
		}
		return true
	})
}

func (pkg *folder) addSymbols(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			pkg.symbols[d.Name.Name] = true
		} else if name := typeName(d.Recv.List[0].Type); name != "" {
			pkg.symbols[name+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range s.Names {
					pkg.symbols[name.Name] = true
				}
			case *ast.TypeSpec:
				pkg.symbols[s.Name.Name] = true
				pkg.addMembers(s)
			}
		}
	}
}

func (pkg *folder) addMembers(s *ast.TypeSpec) {
	var fields *ast.FieldList
	switch t := s.Type.(type) {
	case *ast.StructType:
		fields = t.Fields
	case *ast.InterfaceType:
		fields = t.Methods
	default:
		return
	}
	for _, field := range fields.List {
		for _, name := range field.Names {
			pkg.symbols[s.Name.Name+"."+name.Name] = true
		}
	}
}

// typeName is the name of a receiver's type, without pointer and parameters.
func typeName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.IndexExpr:
		return typeName(t.X)
	case *ast.IndexListExpr:
		return typeName(t.X)
	case *ast.Ident:
		return t.Name
	default:
		return ""
	}
}
