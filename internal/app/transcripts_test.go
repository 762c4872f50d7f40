package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/vault"
)

// TestTranscripts replays testdata/http/*.txtar, each on a new server on SQLite and on another on PostgreSQL, which must answer alike to the byte.
// UPDATE_TRANSCRIPTS=1 writes the answers of SQLite; read every one of them against the contract before it is committed.
//
// Sections alternate: a request, whose name is its method and path, and its answer, whose name is its status and content type. A request is
// lines of comment (`# …`), headers that differ from the usual (`none` leaves one out; Wait-For is none: it repeats the request until the answer
// contains its value), an empty line and the body; an answer is the headers that say something, an empty line and the body. What every run gives anew has a name that is counted up in the order of appearance: <api#1>, <secret#2>.
// Requests use these names, and also <root> (the first root key), <hour> (the present hour's start), and <text*3> (repeated, # is the number).
// A line "With a master key." in the comment at the top gives the server one.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../../testdata/http/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			t.Run("sqlite", func(t *testing.T) {
				got := replay(t, file, Config{Data: t.TempDir()})
				if os.Getenv("UPDATE_TRANSCRIPTS") == "1" {
					if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				compare(t, file, got)
			})
			t.Run("postgres", func(t *testing.T) {
				compare(t, file, replay(t, file, Config{DatabaseURL: conformance.Postgres(t)}))
			})
		})
	}
}

// replay sends the requests of a transcript to a new server and returns the transcript with the answers of this server.
func replay(t *testing.T, file string, c Config) *txtar.Archive {
	t.Helper()
	recorded, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c.Listen, c.RootKey = "127.0.0.1:0", rootKey
	if bytes.Contains(recorded.Comment, []byte("\nWith a master key.\n")) {
		c.MasterKeys = []vault.MasterKey{vault.NewMasterKey(time.Now())}
	}
	s, stop := start(t, c)
	defer stop()
	n := newNames("http://" + string(s))
	out := &txtar.Archive{Comment: recorded.Comment}
	for _, section := range recorded.Files {
		if !isAnswer(section) {
			out.Files = append(out.Files, section, n.exchange(t, section))
		}
	}
	return out
}

func isAnswer(f txtar.File) bool { return f.Name != "" && f.Name[0] >= '0' && f.Name[0] <= '9' }

// exchange sends one request and returns the section of its answer. It repeats itself until the answer contains what Wait-For names.
func (n *names) exchange(t *testing.T, request txtar.File) txtar.File {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n.before = time.Now()
		r, awaited := n.request(t, request)
		resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
		if err != nil {
			t.Fatalf("%s: %v", request.Name, err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatalf("%s: %v", request.Name, err)
		}
		n.after = time.Now()
		fits(t, r, resp, answer)
		data := indented(answer)
		if strings.Contains(data, awaited) || time.Now().After(deadline) {
			return txtar.File{
				Name: strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + resp.Header.Get("Content-Type")),
				Data: []byte(telling(resp.Header) + n.normalize(data)),
			}
		}
	}
}

func (n *names) request(t *testing.T, section txtar.File) (r *http.Request, awaited string) {
	t.Helper()
	method, path, ok := strings.Cut(section.Name, " ")
	if !ok {
		t.Fatalf("%q is neither `METHOD /path` nor an answer", section.Name)
	}
	header, body := headerAndBody(string(section.Data))
	r, err := http.NewRequestWithContext(t.Context(), method, n.server+n.expand(t, path), strings.NewReader(n.expand(t, body)))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("Authorization", "Bearer "+rootKey)
	r.Header.Set("Content-Type", "application/json")
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		switch value = strings.TrimSpace(n.expand(t, value)); {
		case name == "Wait-For":
			awaited = value
		case value == "none":
			r.Header.Del(name)
		default:
			r.Header.Set(name, value)
		}
	}
	n.noteDurations(body)
	return r, awaited
}

var headerLine = regexp.MustCompile(`^[A-Z][A-Za-z-]*:`)

func headerAndBody(data string) (header []string, body string) {
	for {
		line, rest, _ := strings.Cut(data, "\n")
		switch {
		case headerLine.MatchString(line):
			header = append(header, line)
		case strings.HasPrefix(line, "# "):
		case line == "":
			return header, strings.TrimSuffix(rest, "\n")
		default:
			return header, strings.TrimSuffix(data, "\n")
		}
		data = rest
	}
}

// telling lists the headers of an answer that are more than transport.
func telling(h http.Header) string {
	var lines []string
	for name, values := range h {
		switch name {
		case "Content-Type", "Content-Length", "Date", "X-Content-Type-Options":
		case "Ratelimit-Remaining", "Ratelimit-Reset", "Retry-After":
			lines = append(lines, name+": <number>\n") // they depend on the time
		default:
			lines = append(lines, name+": "+strings.Join(values, ", ")+"\n")
		}
	}
	if slices.Sort(lines); len(lines) > 0 {
		lines = append(lines, "\n")
	}
	return strings.Join(lines, "")
}

// names replaces what every run gives anew by names, and back.
type names struct {
	server        string
	hour          int64
	before, after time.Time      // around the present exchange
	durations     map[int64]bool // that any request has named so far
	byValue       map[string]string
	byName        map[string]string
	counts        map[string]int
	secrets       []string
}

func newNames(server string) *names {
	n := &names{
		server: server, hour: time.Now().Truncate(time.Hour).UnixMilli(),
		byValue: map[string]string{rootKey: "<root>"}, byName: map[string]string{"<root>": rootKey}, counts: map[string]int{}, durations: map[int64]bool{}, secrets: []string{rootKey},
	}
	n.byName["<hour>"] = strconv.FormatInt(n.hour, 10)
	return n
}

func (n *names) name(kind, value string) string {
	if known, ok := n.byValue[value]; ok {
		return known
	}
	n.counts[kind]++
	name := fmt.Sprintf("<%s#%d>", kind, n.counts[kind])
	n.byValue[value], n.byName[name] = name, value
	return name
}

var (
	idText      = regexp.MustCompile(`\b([a-z]+)_[0-9a-z]{20}\b`)
	keyText     = regexp.MustCompile(`"key": "((?:[A-Za-z0-9_]+_)?[0-9A-Za-z]{21,})"`)
	startText   = regexp.MustCompile(`"start": "([^"]*)"`)
	resetText   = regexp.MustCompile(`"reset": (\d+)`)
	lengthText  = regexp.MustCompile(`"duration":(\d+)`)
	usedText    = regexp.MustCompile(`,\s+"lastUsedAt": \d{13}`) // comes some seconds after a use
	tookText    = regexp.MustCompile(`"milliseconds": \d+`)
	tokenText   = regexp.MustCompile(`\b(pst|pat)_[1-9A-HJ-NP-Za-km-z]{24}\b`)
	timeText    = regexp.MustCompile(`\b\d{13}\b`)
	placeholder = regexp.MustCompile(`<(?:root|hour|[a-z]+#\d+)>`)
	repetition  = regexp.MustCompile(`<([^<>]+)\*(\d+)>`)
)

func indented(answer []byte) string {
	text := string(answer)
	var out bytes.Buffer
	if json.Indent(&out, bytes.TrimSpace(answer), "", "  ") == nil {
		text = out.String()
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

func (n *names) normalize(text string) string {
	for _, found := range keyText.FindAllStringSubmatch(text, -1) {
		if idText.FindString(found[1]) != found[1] && n.byValue[found[1]] == "" {
			n.name("secret", found[1])
			n.secrets = append(n.secrets, found[1])
		}
	}
	for _, secret := range n.secrets {
		text = strings.ReplaceAll(text, secret, n.byValue[secret])
	}
	text = replace(startText, text, func(part []string) string { return `"start": "` + n.start(part[1]) + `"` })
	text = replace(idText, text, func(part []string) string {
		if part[1] == "req" {
			return "<req>"
		}
		return n.name(part[1], part[0])
	})
	text = usedText.ReplaceAllString(text, "")
	text = replace(tokenText, text, func(part []string) string { return n.name(part[1], part[0]) })
	text = replace(resetText, text, n.reset)
	text = replace(timeText, text, func(part []string) string {
		if millis, err := strconv.ParseInt(part[0], 10, 64); err == nil && time.Since(time.UnixMilli(millis)).Abs() < 48*time.Hour {
			return "<time>"
		}
		return part[0]
	})
	text = tookText.ReplaceAllString(text, `"milliseconds": <ms>`)
	return strings.ReplaceAll(text, n.server, "<server>")
}

// start replaces the four characters of a secret that are shown, if it is a secret given out before that begins so.
func (n *names) start(text string) string {
	for _, secret := range n.secrets {
		if prefix := secret[:strings.LastIndex(secret, "_")+1]; len(text) == len(prefix)+4 && strings.HasPrefix(secret, text) {
			return prefix + "<start>"
		}
	}
	return text
}

// noteDurations remembers the durations of windows that a request names.
func (n *names) noteDurations(request string) {
	for _, found := range lengthText.FindAllStringSubmatch(request, -1) {
		if millis, err := strconv.ParseInt(found[1], 10, 64); err == nil && millis > 0 {
			n.durations[millis] = true
		}
	}
}

// reset replaces the end of the present window of a duration that was named; windows begin with the epoch.
func (n *names) reset(part []string) string {
	reset, err := strconv.ParseInt(part[1], 10, 64)
	for duration := range n.durations {
		if err == nil && reset%duration == 0 && reset > n.before.UnixMilli() && reset <= n.after.UnixMilli()+duration {
			return `"reset": <reset>`
		}
	}
	return part[0]
}

func replace(re *regexp.Regexp, text string, fn func([]string) string) string {
	return re.ReplaceAllStringFunc(text, func(match string) string { return fn(re.FindStringSubmatch(match)) })
}

// expand writes a request as it is sent.
func (n *names) expand(t *testing.T, text string) string {
	t.Helper()
	text = placeholder.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := n.byName[name]
		if !ok {
			t.Errorf("no answer has given %s", name)
		}
		return value
	})
	return replace(repetition, text, func(part []string) string {
		var out strings.Builder
		times, _ := strconv.Atoi(part[2])
		for i := range times {
			out.WriteString(strings.ReplaceAll(part[1], "#", strconv.Itoa(i+1)))
		}
		return out.String()
	})
}

// compare reports every answer that is not as recorded, line by line.
func compare(t *testing.T, file string, got *txtar.Archive) {
	t.Helper()
	recorded, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]string // the answer to each request; empty where none is recorded
	for _, f := range recorded.Files {
		if !isAnswer(f) {
			want = append(want, nil)
		} else if len(want) > 0 {
			want[len(want)-1] = lines(f)
		}
	}
	for i, w := range want {
		request, answer := got.Files[2*i], lines(got.Files[2*i+1])
		if !slices.Equal(w, answer) {
			t.Errorf("%s\n%s\n%s", request.Name, request.Data, strings.Join(difference(w, answer), "\n"))
		}
	}
}

func lines(f txtar.File) []string {
	return append([]string{"-- " + f.Name + " --"}, strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n")...)
}

// difference marks the lines that only one of them has, along a longest common subsequence.
func difference(want, got []string) (out []string) {
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			out = append(out, "  "+want[i])
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+want[i])
			i++
		default:
			out = append(out, "+ "+got[j])
			j++
		}
	}
	return out
}
