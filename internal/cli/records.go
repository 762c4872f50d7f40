package cli

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// record is one line of a file: values by the names of the columns, in lower case and without underscores, so that userId, user_id and UserID are one.
// Values of CSV are texts; empty ones are left out.
type record map[string]any

// records reads a file line by line. next returns the number of the line on which the record begins; a *badLine concerns this record alone.
type records interface {
	next() (line int, r record, err error)
}

// badLine is why a line is rejected.
type badLine struct{ reason string }

func (b *badLine) Error() string { return b.reason }

func bad(format string, args ...any) error { return &badLine{fmt.Sprintf(format, args...)} }

func column(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), "_", ""))
}

func newRecords(format string, in io.Reader) (records, error) {
	buffered := bufio.NewReaderSize(in, 1<<16)
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = buffered.Discard(len(mark)) // spreadsheets begin files with it
	}
	if format == "jsonl" {
		return &jsonRecords{in: buffered}, nil
	}
	r := csv.NewReader(buffered)
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("the first line must name the columns: %w", err)
	}
	seen := map[string]bool{}
	for i := range header {
		header[i] = column(header[i])
		if seen[header[i]] {
			return nil, fmt.Errorf("the first line names the column %q twice", header[i])
		}
		seen[header[i]] = true
	}
	return &csvRecords{in: r, header: header}, nil
}

type csvRecords struct {
	in     *csv.Reader
	header []string
}

func (c *csvRecords) next() (int, record, error) {
	fields, err := c.in.Read()
	var wrong *csv.ParseError
	if errors.As(err, &wrong) {
		return wrong.StartLine, nil, bad("%v", wrong.Err)
	}
	if err != nil {
		return 0, nil, err
	}
	line, _ := c.in.FieldPos(0)
	if len(fields) != len(c.header) {
		return line, nil, bad("it has %d fields, and the first line %d", len(fields), len(c.header))
	}
	r := record{}
	for i, value := range fields {
		if value != "" {
			r[c.header[i]] = value
		}
	}
	return line, r, nil
}

type jsonRecords struct {
	in   *bufio.Reader
	line int
}

func (j *jsonRecords) next() (int, record, error) {
	const longest = 1 << 20
	for {
		var text []byte
		tooLong := false
		for more := true; more; {
			part, isPrefix, err := j.in.ReadLine()
			if err != nil {
				return 0, nil, err
			}
			if tooLong = tooLong || len(text)+len(part) > longest; !tooLong {
				text = append(text, part...)
			}
			more = isPrefix
		}
		j.line++
		switch {
		case tooLong:
			return j.line, nil, bad("it is longer than %d bytes", longest)
		case len(bytes.TrimSpace(text)) == 0:
			continue
		}
		var fields map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&fields); err != nil || fields == nil || d.More() {
			return j.line, nil, bad("it is no JSON object")
		}
		r := record{}
		for name, value := range fields {
			if value != nil {
				r[column(name)] = value
			}
		}
		return j.line, r, nil
	}
}
