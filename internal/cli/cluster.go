package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/admin"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// nodePatience is how long one node may take to answer, so that one that hangs does not hide the others.
const nodePatience = 3 * time.Second

// clusterFlags are those of commands that ask nodes over HTTP.
type clusterFlags struct {
	*clientFlags
	http []string
}

func addClusterFlags(cmd *cobra.Command) *clusterFlags {
	c := &clusterFlags{clientFlags: addClientFlags(cmd)}
	cmd.PersistentFlags().StringSliceVar(&c.http, "http", nil, "HTTP addresses of nodes, HOST:PORT, where they cannot be learnt from the brokers")
	return c
}

func newCluster() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "See what the nodes of a cluster are about, and elect leaders",
		Long: `Cluster asks the nodes of a cluster over HTTP (/v1; see docs/admin.md). Where they listen for that it learns from the
brokers, whose addresses it takes as every command does; --http names nodes directly.`,
		Example: `  chronik cluster status
  chronik cluster watch
  chronik cluster elect orders/0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := addClusterFlags(cmd)
	cmd.AddCommand(newClusterStatus(c), newClusterWatch(c), newClusterElect(c))
	completeArguments(cmd, c.completePartitions(), "elect")
	return cmd
}

// httpNode is a node that can be asked. ID is -1 where it was named by --http.
type httpNode struct {
	ID   int32
	Addr string
}

// find learns where the nodes' HTTP listens: --http, or what the brokers have configured.
func (c *clusterFlags) find(ctx context.Context) ([]httpNode, error) {
	var found []httpNode
	for _, addr := range c.http {
		found = append(found, httpNode{-1, addr})
	}
	if len(found) > 0 {
		return found, nil
	}
	client, err := c.open()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := c.ping(ctx, client); err != nil {
		return nil, err
	}
	adm := kadm.NewClient(client)
	meta, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	addrs := httpOfAll(ctx, adm, meta.Brokers)
	for i, b := range meta.Brokers {
		if addrs[i] != "" {
			found = append(found, httpNode{b.NodeID, addrs[i]})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("none of the %d brokers says where its HTTP listens (they run with http=none, or are none of chronik's); --http HOST:PORT names one", len(meta.Brokers))
	}
	return found, nil
}

// httpOfAll is the HTTP address of each broker, "" of those that do not say within nodePatience. The client's end ends what is
// left: it does not give up a connection that is made before the other end has answered.
func httpOfAll(ctx context.Context, adm *kadm.Client, brokers []kadm.BrokerDetail) []string {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	type answer struct {
		at   int
		addr string
	}
	answers, addrs := make(chan answer, len(brokers)), make([]string, len(brokers))
	for i, b := range brokers {
		go func() { answers <- answer{i, httpOf(ctx, adm, b)} }()
	}
	for range brokers {
		select {
		case a := <-answers:
			addrs[a.at] = a.addr
		case <-ctx.Done():
			return addrs
		}
	}
	return addrs
}

// httpOf is the HTTP address that a broker has configured, "" if it does not say.
func httpOf(ctx context.Context, adm *kadm.Client, b kadm.BrokerDetail) string {
	configs, err := adm.DescribeBrokerConfigs(ctx, b.NodeID)
	if err != nil {
		return ""
	}
	resource, err := configs.On(strconv.Itoa(int(b.NodeID)), nil)
	if err != nil || resource.Err != nil {
		return ""
	}
	for _, c := range resource.Configs {
		if c.Key != "http" {
			continue
		}
		host, port, err := config.SplitHostPort(c.MaybeValue())
		switch {
		case err != nil || port == 0:
			return ""
		case host == "" || host == "0.0.0.0" || host == "::":
			host = b.Host
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return fmt.Sprintf("%s:%d", host, port)
	}
	return ""
}

// within runs f within --timeout.
func (c *clusterFlags) within(cmd *cobra.Command, f func(context.Context, []httpNode) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	found, err := c.find(ctx)
	if err != nil {
		return err
	}
	return f(ctx, found)
}

// askEach asks all nodes at once; an answer that is not the asked node's own is an error.
func askEach[T any](ctx context.Context, found []httpNode, path string, node func(*T) kafka.BrokerID) ([]*T, []error) {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	answers, errs := make([]*T, len(found)), make([]error, len(found))
	var group sync.WaitGroup
	for i, n := range found {
		group.Go(func() {
			var v T
			if errs[i] = getNode(ctx, n.Addr, path, &v); errs[i] != nil {
				return
			}
			if id := node(&v); n.ID >= 0 && int32(id) != n.ID {
				errs[i] = fmt.Errorf("at http://%s, where node %d should be, node %d answers: the address means another machine here; --http names the right ones", n.Addr, n.ID, id)
				return
			}
			answers[i] = &v
		})
	}
	group.Wait()
	return answers, errs
}

func newClusterStatus(c *clusterFlags) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, the controller and how many partitions lack something",
		Long: `Status asks every node that it finds and shows what the one tells that has applied the most metadata, and how far each is.

With --check the exit code is 1 unless every broker is live and answers, there is a controller, and every partition has a
leader and all its replicas in sync.`,
		Example: `  chronik cluster status
  chronik cluster status --json
  until chronik cluster status --check >/dev/null; do sleep 1; done`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.within(cmd, func(ctx context.Context, found []httpNode) error {
				v, errs := clusterStatus(ctx, found)
				if v == nil {
					return errors.Join(errs...)
				}
				print := func() error { return printStatus(cmd, v, errs) }
				if c.json {
					print = func() error { return printJSON(cmd.OutOrStdout(), v) }
				}
				if err := print(); err != nil {
					return err
				}
				if check {
					return checkStatus(v)
				}
				return nil
			})
		},
	}
	c.addJSON(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "exit with 1 unless all is well")
	return cmd
}

// clusterStatus is the newest view, with every node's own offset in it; nil if no node answers.
func clusterStatus(ctx context.Context, found []httpNode) (*admin.ClusterView, []error) {
	views, errs := askEach(ctx, found, "/v1/cluster", func(v *admin.ClusterView) kafka.BrokerID { return v.Node })
	best := newest(views)
	if best == nil {
		return nil, errs
	}
	own := map[kafka.BrokerID]metadata.Offset{}
	for _, v := range views {
		if v != nil {
			own[v.Node] = v.Offset
		}
	}
	for i := range best.Brokers {
		b := &best.Brokers[i]
		b.Offset = nil // what another was told is older
		if offset, ok := own[b.ID]; ok {
			b.Offset = &offset
		}
	}
	return best, slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func printStatus(cmd *cobra.Command, v *admin.ClusterView, errs []error) error {
	w := cmd.OutOrStdout()
	controller := "there is no controller"
	if v.Controller >= 0 {
		controller = fmt.Sprintf("controller %d in term %d", v.Controller, v.Term)
	}
	learners := ""
	if len(v.Learners) > 0 {
		learners = ", learners " + idsOf(v.Learners)
	}
	if _, err := fmt.Fprintf(w, "cluster %s: %d of %d brokers live, %s, voters %s%s, metadata at %d\n%s, %s: %d under-replicated, %d below min.insync.replicas, %d without a leader\n\n",
		v.ClusterID, liveOf(v), len(v.Brokers), controller, idsOf(v.Voters), learners, v.Offset, counted(v.Topics, "topic"), counted(v.Partitions, "partition"), v.UnderReplicated, v.UnderMinISR, v.Offline); err != nil {
		return err
	}
	var rows [][]string
	for _, b := range v.Brokers {
		state := b.State
		if b.ID == v.Controller {
			state += ", controller"
		} else if !b.Voter {
			state += ", no voter"
		}
		offset := "no answer"
		if b.Offset != nil {
			offset = strconv.FormatInt(int64(*b.Offset), 10)
		}
		rows = append(rows, []string{strconv.Itoa(int(b.ID)), state, ago(time.Since(b.Since)), strconv.Itoa(b.Leads), fmt.Sprintf("%d of %d", b.InSync, b.Replicas),
			offset, endpointsOf(b), b.Rack, b.Why})
	}
	if err := printTable(w, []string{"NODE", "STATE", "FOR", "LEADS", "IN SYNC", "METADATA", "KAFKA", "RACK", "WHY"}, rows); err != nil {
		return err
	}
	if v.Controller < 0 {
		if _, err := fmt.Fprintf(w, "\nWithout a controller nothing can be changed and nobody takes over: it needs %d of the voters %s to run and to reach one another.\n",
			len(v.Voters)/2+1, idsOf(v.Voters)); err != nil {
			return err
		}
	}
	for _, err := range errs {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "chronik: %v\n", err); err != nil {
			return err
		}
	}
	return nil
}

func liveOf(v *admin.ClusterView) int {
	live := 0
	for _, b := range v.Brokers {
		if b.State == admin.StateLive {
			live++
		}
	}
	return live
}

func endpointsOf(b admin.BrokerView) string {
	var all []string
	for _, e := range b.Endpoints {
		host := e.Host
		if host == "" {
			host = "*" // whatever address the client dialled
		}
		scheme := ""
		if e.TLS {
			scheme = "tls://"
		}
		all = append(all, fmt.Sprintf("%s%s:%d", scheme, host, e.Port))
	}
	return strings.Join(all, ",")
}

func idsOf(list []kafka.BrokerID) string {
	plain := make([]int32, len(list))
	for i, id := range list {
		plain[i] = int32(id)
	}
	return ids(plain)
}

// checkStatus is what --check demands.
func checkStatus(v *admin.ClusterView) error {
	var lacks []string
	if v.Controller < 0 {
		lacks = append(lacks, "there is no controller")
	}
	for _, b := range v.Brokers {
		switch {
		case b.State != admin.StateLive:
			lacks = append(lacks, fmt.Sprintf("broker %d is %s", b.ID, b.State))
		case b.Offset == nil:
			lacks = append(lacks, fmt.Sprintf("broker %d does not answer", b.ID))
		}
	}
	if v.Offline > 0 || v.UnderReplicated > 0 {
		lacks = append(lacks, fmt.Sprintf("%d partitions without a leader, %d under-replicated", v.Offline, v.UnderReplicated))
	}
	if len(lacks) == 0 {
		return nil
	}
	return errors.New(strings.Join(lacks, "; "))
}
