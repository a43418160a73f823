package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/kafka"
)

func newTopic() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter and delete topics",
		Example: `  chronik topic create orders --partitions 6
  chronik topic list
  chronik topic alter orders --config retention.ms=86400000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := addClientFlags(cmd)
	cmd.AddCommand(newTopicCreate(c), newTopicList(c), newTopicDescribe(c), newTopicAlter(c), newTopicDelete(c))
	completeArguments(cmd, c.completeTopics(), "describe", "alter", "delete")
	return cmd
}

func newTopicCreate(c *clientFlags) *cobra.Command {
	var partitions int32
	var replicas int16
	var config []string
	var ifMissing bool
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create topics",
		Example: `  chronik topic create orders
  chronik topic create orders payments --partitions 6 --config retention.ms=86400000 --config compression.type=zstd`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			values, err := keyValues("config", config)
			if err != nil {
				return err
			}
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.CreateTopics(ctx, partitions, replicas, values, names...)
				if err != nil {
					return err
				}
				var failed []error
				created := []createdJSON{}
				for _, name := range names {
					switch r := results[name]; {
					case r.Err == nil && c.json:
						created = append(created, createdJSON{r.Topic, r.ID.String(), r.NumPartitions, r.ReplicationFactor})
					case r.Err == nil:
						_, err = fmt.Fprintf(cmd.OutOrStdout(), "created %s: %s, %s\n", r.Topic, counted(int(r.NumPartitions), "partition"), counted(int(r.ReplicationFactor), "replica"))
						failed = append(failed, err)
					case ifMissing && strings.Contains(r.Err.Error(), "TOPIC_ALREADY_EXISTS"):
					default:
						failed = append(failed, topicError("create", r.Topic, r.Err, r.ErrMessage))
					}
				}
				if c.json {
					failed = append(failed, printJSON(cmd.OutOrStdout(), created))
				}
				return errors.Join(failed...)
			})
		},
	}
	f := cmd.Flags()
	f.Int32VarP(&partitions, "partitions", "p", -1, "partitions; -1 is the cluster's default")
	f.Int16VarP(&replicas, "replicas", "r", -1, "replicas of each partition; -1 is the cluster's default")
	f.StringArrayVarP(&config, "config", "c", nil, "`KEY=VALUE` of the topic's configuration; may be repeated")
	f.BoolVar(&ifMissing, "if-missing", false, "a topic that exists is no error")
	c.addJSON(cmd)
	return cmd
}

type createdJSON struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Partitions int32  `json:"partitions"`
	Replicas   int16  `json:"replicas"`
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func topicError(what, topic string, err error, message string) error {
	if message != "" {
		return fmt.Errorf("%s %s: %w (%s)", what, topic, err, message)
	}
	return fmt.Errorf("%s %s: %w", what, topic, err)
}

// topicRow is a topic as `topic list --json` prints it.
type topicRow struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
	Internal   bool   `json:"internal"`
}

func newTopicList(c *clientFlags) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List topics",
		Example: "  chronik topic list\n  chronik topic list --internal --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				list := admin.ListTopics
				if internal {
					list = admin.ListTopicsWithInternal
				}
				details, err := list(ctx)
				if err != nil {
					return err
				}
				rows := []topicRow{}
				for _, t := range details.Sorted() {
					rows = append(rows, topicRow{t.Topic, kafkaID(t.ID), len(t.Partitions), t.Partitions.NumReplicas(), t.IsInternal})
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				var table [][]string
				for _, r := range rows {
					table = append(table, []string{r.Name, strconv.Itoa(r.Partitions), strconv.Itoa(r.Replicas)})
				}
				return printTable(cmd.OutOrStdout(), []string{"TOPIC", "PARTITIONS", "REPLICAS"}, table)
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "also the brokers' own topics")
	c.addJSON(cmd)
	return cmd
}

// topicDescription is a topic as `topic describe --json` prints it.
type topicDescription struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Config     map[string]string `json:"config"` // what was set on the topic
	Partitions []partitionRow    `json:"partitions"`
}

type partitionRow struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       int64   `json:"start_offset"`
	End         int64   `json:"end_offset"`
}

func newTopicDescribe(c *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "describe NAME...",
		Short:   "Show partitions, leaders, offsets and configuration of topics",
		Example: "  chronik topic describe orders\n  chronik topic describe orders --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				all, err := describeTopics(ctx, admin, names)
				if err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), all)
				}
				for _, t := range all {
					if err := printTopic(cmd, t); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.addJSON(cmd)
	return cmd
}

func describeTopics(ctx context.Context, admin *kadm.Client, names []string) ([]topicDescription, error) {
	details, err := admin.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, t := range details.Sorted() {
		if t.Err != nil {
			return nil, topicError("describe", t.Topic, t.Err, "")
		}
	}
	starts, err := listed(ctx, admin.ListStartOffsets, names...)
	if err != nil {
		return nil, err
	}
	ends, err := listed(ctx, admin.ListEndOffsets, names...)
	if err != nil {
		return nil, err
	}
	configs, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, err
	}
	var all []topicDescription
	for _, t := range details.Sorted() {
		d := topicDescription{Name: t.Topic, ID: kafkaID(t.ID), Config: map[string]string{}}
		for _, p := range t.Partitions.Sorted() {
			start, _ := starts.Lookup(t.Topic, p.Partition)
			end, _ := ends.Lookup(t.Topic, p.Partition)
			d.Partitions = append(d.Partitions, partitionRow{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, start.Offset, end.Offset})
		}
		if resource, err := configs.On(t.Topic, nil); err == nil {
			for _, c := range resource.Configs {
				if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
					d.Config[c.Key] = c.MaybeValue()
				}
			}
		}
		all = append(all, d)
	}
	return all, nil
}

func printTopic(cmd *cobra.Command, t topicDescription) error {
	w := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(w, "%s  id %s\n", t.Name, t.ID); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(t.Config)) {
		if _, err := fmt.Fprintf(w, "  %s=%s\n", k, t.Config[k]); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, p := range t.Partitions {
		rows = append(rows, []string{
			strconv.Itoa(int(p.Partition)), strconv.Itoa(int(p.Leader)), strconv.Itoa(int(p.LeaderEpoch)), ids(p.Replicas), ids(p.ISR),
			strconv.FormatInt(p.Start, 10), strconv.FormatInt(p.End, 10), strconv.FormatInt(p.End-p.Start, 10),
		})
	}
	return printTable(w, []string{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END", "RECORDS"}, rows)
}

func ids(list []int32) string {
	s := make([]string, len(list))
	for i, id := range list {
		s[i] = strconv.Itoa(int(id))
	}
	return strings.Join(s, ",")
}

// kafkaID is a topic ID as Kafka's tools print it.
func kafkaID(id kadm.TopicID) string { return kafka.TopicID(id).String() }
