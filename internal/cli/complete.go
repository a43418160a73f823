package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// completionPatience is how long a person who pressed Tab waits for the brokers.
const completionPatience = 2 * time.Second

// completeFrom completes arguments with what list finds at the brokers. Where that fails there is nothing to offer.
func (c *clientFlags) completeFrom(list func(context.Context, *kadm.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
		defer cancel()
		client, err := c.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer client.Close()
		var found []string
		for _, name := range list(ctx, kadm.NewClient(client)) {
			if strings.HasPrefix(name, begun) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *clientFlags) completeTopics() cobra.CompletionFunc {
	return c.completeFrom(func(ctx context.Context, admin *kadm.Client) []string {
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			return nil
		}
		return topics.Names()
	})
}

func (c *clientFlags) completeGroups() cobra.CompletionFunc {
	return c.completeFrom(func(ctx context.Context, admin *kadm.Client) []string {
		groups, err := admin.ListGroups(ctx)
		if err != nil {
			return nil
		}
		return groups.Groups()
	})
}

// completeTopicThenFiles is for a topic followed by files.
func (c *clientFlags) completeTopicThenFiles() cobra.CompletionFunc {
	topics := c.completeTopics()
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return topics(cmd, args, begun)
	}
}

// completeArguments gives the subcommands named the completion.
func completeArguments(cmd *cobra.Command, complete cobra.CompletionFunc, names ...string) {
	for _, sub := range cmd.Commands() {
		for _, name := range names {
			if sub.Name() == name {
				sub.ValidArgsFunction = complete
			}
		}
	}
}
