package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 1 << 20

// conn is one kept-alive HTTP/1.1 connection, for one goroutine. It does only what the servers here need, because on the same machine
// the load of net/http's own client would take more CPU than the servers do.
type conn struct {
	net.Conn
	r    *bufio.Reader
	body []byte
}

// dial connects; the connection ends with ctx, and at the latest after the given time.
func dial(ctx context.Context, address string, within time.Duration) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return &conn{Conn: c, r: bufio.NewReader(c), body: make([]byte, 4096)}, c.SetDeadline(time.Now().Add(within))
}

// request returns the bytes of a POST as do wants them.
func request(address, operation, rootKey string, body any) []byte {
	content, err := json.Marshal(body)
	if err != nil {
		panic(err) // all bodies are literals of this program
	}
	return fmt.Appendf(nil, "POST /v2/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		operation, address, rootKey, len(content), content)
}

// do sends a request and reads the whole answer. The body is valid until the next call.
func (c *conn) do(request []byte) (status int, body []byte, err error) {
	if _, err = c.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < len("HTTP/1.1 200") || string(line[:9]) != "HTTP/1.1 " {
		return 0, nil, fmt.Errorf("not an HTTP answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("not an HTTP answer: %q", line)
	}
	n, err := c.contentLength()
	if err != nil {
		return status, nil, err
	}
	if n > cap(c.body) {
		c.body = make([]byte, n)
	}
	body = c.body[:n]
	if _, err = io.ReadFull(c.r, body); err != nil {
		return status, nil, err
	}
	if c.r.Buffered() > 0 {
		return status, nil, errors.New("there is more than one answer to one request")
	}
	return status, body, nil
}

// contentLength reads the headers.
func (c *conn) contentLength() (int, error) {
	const name = "Content-Length:"
	n := -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if n, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, fmt.Errorf("header %q: %w", line, err)
			}
		}
	}
	if n < 0 || n > maxAnswer {
		return 0, fmt.Errorf("an answer with Content-Length %d (-1 = none) cannot be read", n)
	}
	return n, nil
}

// call sends a request of the setup and decodes the data of its answer into out.
func (c *conn) call(request []byte, out any) error {
	status, body, err := c.do(request)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %s", status, body)
	}
	return json.Unmarshal(body, &struct {
		Data any `json:"data"`
	}{out})
}
