package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// listSizes are the lengths of the lists in `in (…)`; a shorter list repeats its last value, so that there are few distinct statements.
var listSizes = []int{1, 10, 100}

// inList is a statement with a list at its end, in all sizes. first is the number of the list's first placeholder.
func inList(first int, head, tail string, hot bool) map[int]string {
	out := map[int]string{}
	for _, size := range listSizes {
		marks := make([]string, size)
		for i := range marks {
			marks[i] = fmt.Sprintf("$%d", first+i)
		}
		out[size] = register(head+"("+strings.Join(marks, ", ")+")"+tail, hot)
	}
	return out
}

// each runs a list statement over values, in chunks, and calls scan for every row that it returns.
func (r reader) each(ctx context.Context, texts map[int]string, fixed []any, values []string, scan func(*sql.Rows) error) error {
	return r.eachWith(ctx, texts, "", fixed, values, scan)
}

// fit returns the size of the statement for up to the largest number of values, and its arguments.
func fit(fixed []any, values []string) (size int, args []any) {
	size = listSizes[slices.IndexFunc(listSizes, func(n int) bool { return n >= len(values) })]
	args = slices.Clone(fixed)
	for i := range size {
		args = append(args, values[min(i, len(values)-1)])
	}
	return size, args
}

// eachWith is each with tail behind the statements.
func (r reader) eachWith(ctx context.Context, texts map[int]string, tail string, fixed []any, values []string, scan func(*sql.Rows) error) error {
	for chunk := range slices.Chunk(values, listSizes[len(listSizes)-1]) {
		size, args := fit(fixed, chunk)
		if err := eachRow(ctx, r.q, scan, texts[size]+tail, args...); err != nil {
			return err
		}
	}
	return nil
}

// rowSizes are the lengths of inserts. SQLite's driver looks each parameter up by name in a list, so that many cost their square: imports, whose rows are wide
// and many, stay below 100 at a time.
var rowSizes = []int{1, 5, 20, 100}

// rowList is an insert of several rows of so many columns, in all sizes.
func rowList(head string, columns int, tail string) map[int]string {
	out := map[int]string{}
	for _, size := range rowSizes {
		rows := make([]string, size)
		for i := range rows {
			marks := make([]string, columns)
			for j := range marks {
				marks[j] = fmt.Sprintf("$%d", i*columns+j+1)
			}
			rows[i] = "(" + strings.Join(marks, ", ") + ")"
		}
		out[size] = register(head+" values "+strings.Join(rows, ", ")+tail, false)
	}
	return out
}

// insertRows inserts rows by the statements of rowList, in as few as it takes, and calls scan for every row that they return; nil if they return none.
func (r reader) insertRows(ctx context.Context, texts map[int]string, rows [][]any, scan func(*sql.Rows) error) error {
	for len(rows) > 0 {
		size := rowSizes[0]
		for _, n := range rowSizes {
			if n <= len(rows) {
				size = n
			}
		}
		var err error
		if args := slices.Concat(rows[:size]...); scan != nil {
			err = eachRow(ctx, r.q, scan, texts[size], args...)
		} else {
			_, err = r.q.ExecContext(ctx, texts[size], args...)
		}
		if err != nil {
			return err
		}
		rows = rows[size:]
	}
	return nil
}

// eachRow runs a statement and calls scan for every row.
func eachRow(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
