package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"chronik/internal/admin"
)

// httpAnswerMax bounds what a node's /v1 may answer.
const httpAnswerMax = 256 << 20

// refusedError is an answer of a node that says no.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return e.text }

// nodeClient asks nodes' HTTP addresses. It keeps no connections: a command asks each once.
var nodeClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second}}

// getNode asks a node's /v1 at host:port.
func getNode(ctx context.Context, addr, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := nodeClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask http://%s%s: %w", addr, path, unwrapURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp, addr)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, httpAnswerMax)).Decode(answer); err != nil {
		return fmt.Errorf("the answer of http://%s%s: %w", addr, path, err)
	}
	return nil
}

func refusal(resp *http.Response, addr string) error {
	var p admin.Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p); err != nil || p.Error == "" {
		return &refusedError{resp.StatusCode, fmt.Sprintf("http://%s answers %s; is it a chronik node of this version?", addr, resp.Status)}
	}
	return &refusedError{resp.StatusCode, p.Error}
}

// unwrapURL drops net/http's own "Get URL:".
func unwrapURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
