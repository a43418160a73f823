package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

const (
	requestsMax  = 8 // /v1 requests at a time, streams apart
	topicsPage   = 1000
	topicsPerAsk = 10_000
)

// apiRoutes are those of /v1.
func (s *Server) apiRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/cluster", s.asked(func(c Cluster, _ *http.Request) (any, int, error) { return clusterView(c), 0, nil }))
	mux.HandleFunc("GET /v1/topics", s.asked(askTopics))
	mux.HandleFunc("GET /v1/topics/{topic}", s.asked(askTopic))
	mux.HandleFunc("GET /v1/explain/{topic}/{partition}", s.asked(askExplain))
	s.groupRoutes(mux)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("/v1/", s.inTime(func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is no %s %s; see docs/admin.md", r.Method, r.URL.Path)
	}))
}

func askTopics(c Cluster, r *http.Request) (any, int, error) {
	limit := topicsPage
	if given := r.URL.Query().Get("limit"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > topicsPerAsk {
			return nil, http.StatusBadRequest, fmt.Errorf("limit=%s: want 1 to %d", given, topicsPerAsk)
		}
		limit = n
	}
	return topicsView(c.Image(), r.URL.Query().Get("after"), limit), 0, nil
}

func askTopic(c Cluster, r *http.Request) (any, int, error) {
	img := c.Image()
	t, err := topicOf(img, r)
	if err != nil {
		return nil, http.StatusNotFound, err
	}
	return topicDetail(img, t), 0, nil
}

func askExplain(c Cluster, r *http.Request) (any, int, error) {
	img := c.Image()
	t, err := topicOf(img, r)
	if err != nil {
		return nil, http.StatusNotFound, err
	}
	index, err := strconv.ParseInt(r.PathValue("partition"), 10, 32)
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("%q is not a partition's number", r.PathValue("partition"))
	}
	p := t.Partitions.At(int32(index))
	if p == nil {
		return nil, http.StatusNotFound, fmt.Errorf("topic %s has partitions 0 to %d, no %d", t.Name, t.Partitions.Len()-1, index)
	}
	return explain(c, img, t, p), 0, nil
}

func topicOf(img *metadata.Image, r *http.Request) (*metadata.Topic, error) {
	name := r.PathValue("topic")
	if t := img.Topic(name); t != nil {
		return t, nil
	}
	if err := kafka.CheckTopicName(name); err != nil {
		return nil, fmt.Errorf("%q is no topic's name", name)
	}
	return nil, fmt.Errorf("there is no topic %s", name)
}

// asked runs a question in one of a bounded number of slots and answers in JSON.
func (s *Server) asked(question func(Cluster, *http.Request) (answer any, status int, err error)) http.HandlerFunc {
	return s.inTime(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "%d requests are being answered, which is the limit", requestsMax)
			return
		}
		cluster := s.cluster(w)
		if cluster == nil {
			return
		}
		answer, status, err := question(cluster, r)
		if err != nil {
			answer = Problem{err.Error()}
		} else {
			status = http.StatusOK
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.answerMax)) // from now on
		reply(w, status, answer)
	})
}

// cluster is what to ask; where the node cannot tell yet, it has answered so and returns nil.
func (s *Server) cluster(w http.ResponseWriter) Cluster {
	var c Cluster
	if s.opts.Cluster != nil {
		c = s.opts.Cluster()
	}
	if c != nil {
		return c
	}
	why := "the node is starting"
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			why = err.Error()
		}
	}
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, "%s", why)
	return nil
}

// Problem is the body of every answer that is none.
type Problem struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	reply(w, status, Problem{fmt.Sprintf(format, args...)})
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // plain structs
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone reads nothing
}
