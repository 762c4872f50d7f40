package sqlstore

import "strings"

// searchable is what a search looks at: the texts of a row, case-folded here, since engines fold differently.
func searchable(texts ...string) string { return fold(strings.Join(texts, "\x1f")) }

var literally = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// searching chooses between a list and the same with a search, whose pattern is the parameter after args. A search matches where its text occurs,
// and nothing in it is special.
func searching(list, search, text string, args ...any) (string, []any) {
	if text == "" {
		return list, args
	}
	return search, append(args, "%"+literally.Replace(fold(text))+"%")
}
