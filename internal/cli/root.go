package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes, as `chronik help` tells them.
const (
	exitOK      = 0
	exitFailure = 1 // the command failed
	exitUsage   = 2 // wrong flags, arguments or configuration: nothing was done
	exitFatal   = 3 // a node stopped because it could no longer make data durable
	exitCut     = 4 // a node's clean stop was cut short: a second signal, or shutdown.max.ms
)

// helpColumns is how wide the flags of a command's help are.
const helpColumns = 80

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	var failure *exitError
	if !errors.As(err, &failure) {
		failure = &exitError{exitFailure, err}
	}
	if failure.err != nil {
		_, _ = fmt.Fprintf(stderr, "chronik: %v\n", failure.err)
	}
	return failure.code
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error // nil if there is no more to say
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error of the user's, found before anything was done.
func usage(err error) error { return &exitError{exitUsage, err} }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "chronik",
		Short: "A durable event log that speaks Kafka's protocol",
		Long: `chronik is a durable, replicated event log in one binary. Any Kafka client works with it unchanged.

Start a node, then produce and consume with chronik itself or with the client that you have:

  chronik start
  echo hello | chronik produce greetings
  chronik consume greetings --from start

Exit codes: 0 done; 1 failed; 2 wrong flags, arguments or configuration; 3 a node stopped because it could no
longer make data durable; 4 a node's clean stop was cut short.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath()))
	})
	root.AddCommand(commands()...)
	cobra.AddTemplateFunc("wrapped", func(flags *pflag.FlagSet) string { return flags.FlagUsagesWrapped(helpColumns) })
	root.SetUsageTemplate(strings.NewReplacer(".LocalFlags.FlagUsages", "wrapped .LocalFlags", ".InheritedFlags.FlagUsages", "wrapped .InheritedFlags").
		Replace(root.UsageTemplate()))
	argumentErrors(root)
	return root
}

// argumentErrors makes wrong arguments usage errors that say where to look.
func argumentErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath()))
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		argumentErrors(sub)
	}
}

// commands is every command.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newStart(),
		newDev(),
		newTopic(),
		newProduce(),
		newConsume(),
		newGroup(),
		newCluster(),
		newExplain(),
		newBench(),
		newLog(),
		newVersion(),
		newCompletion(),
		newConfigurationHelp(),
	}
}
