package kafka

import (
	"errors"
	"fmt"
)

// Error is a protocol error: a code that a Kafka client understands, and a message for the person behind it.
//
// The values below are sentinels without a message of their own; say what happened with [Error.With], which keeps
// errors.Is working. Codes: https://kafka.apache.org/protocol#protocol_error_codes
type Error struct {
	Code int16
	Name string // Kafka's name, such as NOT_LEADER_OR_FOLLOWER
	Msg  string // what happened, on what, and what to do next; may be empty
}

func (e *Error) Error() string {
	if e.Msg == "" {
		return e.Name
	}
	return e.Name + ": " + e.Msg
}

// Is matches any error of the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// With returns the error with a message.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Code: e.Code, Name: e.Name, Msg: fmt.Sprintf(format, args...)}
}

// CodeOf maps any error to the code that goes on the wire: 0 for nil, the error's own code, and
// UNKNOWN_SERVER_ERROR for everything else. No error becomes a success.
func CodeOf(err error) int16 {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ErrUnknownServerError.Code
}

// Message is the text for an ErrorMessage field: nil for nil.
func Message(err error) *string {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.Msg != "" {
		return &e.Msg
	}
	s := err.Error()
	return &s
}

// ByCode returns the sentinel of a code, and ErrUnknownServerError for a code that is not known. Code 0 is nil.
func ByCode(code int16) error {
	if code == 0 {
		return nil
	}
	if e, ok := byCode[code]; ok {
		return e
	}
	return ErrUnknownServerError
}

var byCode = map[int16]*Error{}

func define(code int16, name string) *Error {
	e := &Error{Code: code, Name: name}
	byCode[code] = e
	return e
}
