package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newTopicAlter(c *clientFlags) *cobra.Command {
	var partitions int
	var set, unset []string
	cmd := &cobra.Command{
		Use:   "alter NAME",
		Short: "Change a topic's configuration, or add partitions",
		Example: `  chronik topic alter orders --config retention.ms=86400000 --config max.message.bytes=2000000
  chronik topic alter orders --delete-config retention.ms
  chronik topic alter orders --partitions 12`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			alter, err := alterations(set, unset)
			if err != nil {
				return err
			}
			if len(alter) == 0 && partitions == 0 {
				return usage(fmt.Errorf("nothing to change: give --config, --delete-config or --partitions"))
			}
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				return alterTopic(ctx, cmd, admin, names[0], alter, partitions)
			})
		},
	}
	f := cmd.Flags()
	f.IntVarP(&partitions, "partitions", "p", 0, "raise the partition count to this")
	f.StringArrayVarP(&set, "config", "c", nil, "set `KEY=VALUE`; may be repeated")
	f.StringArrayVar(&unset, "delete-config", nil, "go back to the default of `KEY`; may be repeated")
	return cmd
}

func alterations(set, unset []string) ([]kadm.AlterConfig, error) {
	values, err := keyValues("config", set)
	if err != nil {
		return nil, err
	}
	var alter []kadm.AlterConfig
	for k, v := range values {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: v})
	}
	for _, k := range unset {
		alter = append(alter, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
	}
	return alter, nil
}

func alterTopic(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, topic string, alter []kadm.AlterConfig, partitions int) error {
	if len(alter) > 0 {
		results, err := admin.AlterTopicConfigs(ctx, alter, topic)
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Err != nil {
				return topicError("alter", r.Name, r.Err, r.ErrMessage)
			}
		}
	}
	if partitions > 0 {
		results, err := admin.UpdatePartitions(ctx, partitions, topic)
		if err != nil {
			return err
		}
		for _, r := range results.Sorted() {
			if r.Err != nil {
				return topicError("add partitions to", r.Topic, r.Err, r.ErrMessage)
			}
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "altered %s\n", topic)
	return err
}

func newTopicDelete(c *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME...",
		Short:   "Delete topics and all of their records",
		Example: "  chronik topic delete orders payments",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.DeleteTopics(ctx, names...)
				if err != nil {
					return err
				}
				var failed []error
				for _, r := range results.Sorted() {
					if r.Err != nil {
						failed = append(failed, topicError("delete", r.Topic, r.Err, r.ErrMessage))
						continue
					}
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", r.Topic)
					failed = append(failed, err)
				}
				return errors.Join(failed...)
			})
		},
	}
}
