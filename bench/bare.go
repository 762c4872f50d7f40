package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// bare is the yardstick: what net/http and encoding/json alone cost for this request and an answer of this size. It writes the
// content of the file named by its one argument as the answer to everything.
func bare(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: bench bare FILE-WITH-THE-ANSWER")
	}
	answer, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "The bare handler listens on http://%s\n", l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			Key string `json:"key"`
			API string `json:"apiId"`
			ID  string `json:"identifier"`
		}
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil || question.Key+question.API+question.ID == "" {
			http.Error(w, "no key, API or identifier", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
}
