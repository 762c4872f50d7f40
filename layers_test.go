package tollkey_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tollkey/tollkey"

// layers is the architecture: which of our packages each package may import. Arrows point down only.
var layers = map[string][]string{
	".":                    {},
	"api":                  {},
	"cmd/tollkey":          {"internal/cli"},
	"internal/access":      {},
	"internal/app":         {".", "internal/control", "internal/feed", "internal/httpapi", "internal/ledger", "internal/limit", "internal/meter", "internal/obs", "internal/refill", "internal/sqlstore", "internal/store", "internal/vault", "internal/verify"},
	"internal/cli":         {"internal/app", "internal/config", "internal/vault"},
	"internal/config":      {"internal/vault"},
	"internal/conformance": {".", "internal/ledger", "internal/limit", "internal/meter", "internal/refill", "internal/store"},
	"internal/control":     {".", "internal/access", "internal/foreignhash", "internal/limit", "internal/meter", "internal/secret", "internal/store", "internal/vault"},
	"internal/feed":        {".", "internal/store"},
	"internal/foreignhash": {"."},
	"internal/httpapi":     {".", "api", "internal/access", "internal/control", "internal/meter", "internal/obs", "internal/store", "internal/verify", "internal/wire"},
	"internal/ledger":      {"."},
	"internal/limit":       {"."},
	"internal/meter":       {".", "internal/ledger"},
	"internal/obs":         {"."},
	"internal/refill":      {"internal/store"},
	"internal/secret":      {},
	"internal/sqlstore":    {".", "internal/ledger", "internal/limit", "internal/meter", "internal/store"},
	"internal/store":       {"."},
	"internal/vault":       {"."},
	"internal/verify":      {".", "internal/access", "internal/feed", "internal/foreignhash", "internal/ledger", "internal/limit", "internal/secret", "internal/store"},
	"internal/wire":        {},
}

const (
	maxPackages      = 30
	maxFileLines     = 600
	maxFunctionLines = 70
)

// TestLayers fails for an import that the table does not allow, an unlisted package, and whatever is over budget.
func TestLayers(t *testing.T) {
	if len(layers) > maxPackages {
		t.Errorf("%d packages, at most %d", len(layers), maxPackages)
	}
	for _, file := range goFiles(t) {
		dir := filepath.ToSlash(filepath.Dir(file))
		allowed, listed := layers[dir]
		if !listed {
			t.Errorf("%s: package %s is not in the table", file, dir)
			continue
		}
		if dir == "internal/wire" {
			continue // generated
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		isTest := strings.HasSuffix(file, "_test.go")
		if !isTest {
			checkImports(t, file, dir, parsed, allowed)
			checkFunctions(t, fset, parsed)
		}
		if n := fset.Position(parsed.FileEnd).Line; n > maxFileLines {
			t.Errorf("%s has %d lines, at most %d", file, n, maxFileLines)
		}
	}
}

func checkImports(t *testing.T, file, dir string, parsed *ast.File, allowed []string) {
	for _, spec := range parsed.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		own, isOwn := strings.CutPrefix(path, module)
		if isOwn {
			own = strings.TrimPrefix(own, "/")
			if own == "" {
				own = "."
			}
			if !slices.Contains(allowed, own) {
				t.Errorf("%s: %s must not import %s", file, dir, own)
			}
		} else if dir == "." && strings.Contains(strings.Split(path, "/")[0], ".") {
			t.Errorf("%s: the root package imports %s; it may use the standard library only", file, path)
		}
	}
}

func checkFunctions(t *testing.T, fset *token.FileSet, parsed *ast.File) {
	for _, decl := range parsed.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			from, to := fset.Position(f.Pos()), fset.Position(f.End())
			if n := to.Line - from.Line + 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, at most %d", from, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func goFiles(t *testing.T) []string {
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "tools" || d.Name() == "bench" || d.Name() == ".git" || d.Name() == "web"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestPackageComments fails for a package without a comment that says what it promises.
func TestPackageComments(t *testing.T) {
	commented := map[string]bool{}
	for _, file := range goFiles(t) {
		dir := filepath.ToSlash(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		commented[dir] = commented[dir] || parsed.Doc != nil
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// TestReadingList keeps the list that ARCHITECTURE.md gives to newcomers true and short.
func TestReadingList(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- reading:begin -->")
	list, _, ok2 := strings.Cut(rest, "<!-- reading:end -->")
	if !ok || !ok2 {
		t.Fatal("ARCHITECTURE.md has no reading list")
	}
	lines, files := 0, 0
	for _, line := range strings.Split(list, "\n") {
		_, after, found := strings.Cut(line, "](")
		if !found {
			continue
		}
		path, _, _ := strings.Cut(after, ")")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		files++
		lines += strings.Count(string(content), "\n")
	}
	if files < 4 || lines >= 2000 {
		t.Errorf("the reading list has %d files and %d lines; at least 4 and under 2,000", files, lines)
	}
}

// TestArchitectureTable holds the table in ARCHITECTURE.md and the one above together.
func TestArchitectureTable(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	names := make([]string, 0, len(layers))
	for name := range layers {
		if _, err := os.Stat(name); err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		want.WriteString("| `" + name + "` | " + strings.Join(layers[name], ", ") + " |\n")
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("ARCHITECTURE.md does not print the import table; it should hold:\n%s", want.String())
	}
}
