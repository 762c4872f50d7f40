// Package access decides what a set of permissions allows: permission queries of a verification, and the permissions of
// root keys. It is pure: the same arguments always give the same answer, and everything in it is immutable and safe for
// concurrent use.
package access

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Query is a parsed permission query, such as `documents.read AND (teams.a OR teams.b)`. AND binds tighter than OR;
// wildcards are literal.
type Query struct {
	// code is the query in postfix order: a step with a slug pushes whether it is held, the others combine the top two.
	code []step
}

type step struct {
	op   op
	slug string
}

type op byte

const (
	opSlug op = iota
	opAnd
	opOr
	opOpen // on the parser's stack only
)

// SyntaxError tells where a query stops making sense.
type SyntaxError struct {
	Position int // byte offset, from 0
	Message  string
}

// Error returns the message with its position.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at position %d", e.Message, e.Position) }

// Parse reads a query. The error is a *SyntaxError. Nesting costs memory in proportion to the text and no stack.
func Parse(text string) (Query, error) {
	p := parser{text: text, code: make([]step, 0, 4)}
	for p.skipSpace(); p.at < len(text); p.skipSpace() {
		if err := p.next(); err != nil {
			return Query{}, err
		}
	}
	if !p.operand {
		return Query{}, p.fail(len(text), "a permission is missing")
	}
	for len(p.stack) > 0 {
		if p.top() == opOpen {
			return Query{}, p.fail(len(text), "a closing parenthesis is missing")
		}
		p.pop()
	}
	return Query{p.code}, nil
}

// parser is the shunting-yard: operators wait on the stack until what binds tighter is done.
type parser struct {
	text    string
	at      int
	code    []step
	stack   []op
	operand bool // what came last is a complete operand
}

func (p *parser) next() error {
	start := p.at
	switch c := p.text[start]; {
	case c == '(':
		if p.operand {
			return p.fail(start, "an operator is missing before the parenthesis")
		}
		p.stack, p.at = append(p.stack, opOpen), start+1
		return nil
	case c == ')':
		return p.close(start)
	case !isWord(c):
		r, _ := utf8.DecodeRuneInString(p.text[start:])
		return p.fail(start, fmt.Sprintf("unexpected character %q", r))
	}
	for p.at < len(p.text) && isWord(p.text[p.at]) {
		p.at++
	}
	return p.word(start, p.text[start:p.at])
}

func (p *parser) word(start int, word string) error {
	operator := opSlug
	if strings.EqualFold(word, "and") {
		operator = opAnd
	} else if strings.EqualFold(word, "or") {
		operator = opOr
	}
	switch {
	case operator == opSlug && p.operand:
		return p.fail(start, "an operator is missing before the permission")
	case operator == opSlug:
		p.code, p.operand = append(p.code, step{opSlug, word}), true
	case !p.operand:
		return p.fail(start, "a permission is missing before the operator")
	default:
		for len(p.stack) > 0 && p.top() != opOpen && p.top() <= operator {
			p.pop()
		}
		p.stack, p.operand = append(p.stack, operator), false
	}
	return nil
}

func (p *parser) close(at int) error {
	if !p.operand {
		return p.fail(at, "a permission is missing before the parenthesis")
	}
	for len(p.stack) > 0 && p.top() != opOpen {
		p.pop()
	}
	if len(p.stack) == 0 {
		return p.fail(at, "the parenthesis was never opened")
	}
	p.stack, p.at = p.stack[:len(p.stack)-1], at+1
	return nil
}

func (p *parser) top() op { return p.stack[len(p.stack)-1] }

func (p *parser) pop() {
	p.code, p.stack = append(p.code, step{op: p.top()}), p.stack[:len(p.stack)-1]
}

func (p *parser) skipSpace() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) fail(at int, message string) error { return &SyntaxError{at, message} }

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-:*/", c) >= 0
}

// Satisfied reports whether the permissions for which has is true satisfy the query.
func (q Query) Satisfied(has func(slug string) bool) bool {
	var room [32]bool
	held := room[:0]
	for _, s := range q.code {
		if s.op == opSlug {
			held = append(held, has(s.slug))
			continue
		}
		a, b := held[len(held)-2], held[len(held)-1]
		held = held[:len(held)-1]
		held[len(held)-1] = (s.op == opAnd && a && b) || (s.op == opOr && (a || b))
	}
	return len(held) == 1 && held[0]
}
