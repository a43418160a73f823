package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/spf13/cobra"

	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

func newLog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Check or print the data directory of a stopped node",
		Example: `  chronik log verify ./chronik-data
  chronik log dump ./chronik-data | less`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogVerify(), newLogDump())
	return cmd
}

// stopped runs f on a data directory unless a node runs there. The lock is only tried: the store takes it itself.
func stopped(dir string, f func(vfs.FS) error) error {
	fsys := vfs.OS{}
	info, err := fsys.Stat(dir)
	if err != nil {
		return usage(err)
	}
	if !info.Dir {
		return usage(fmt.Errorf("%s is not a directory", dir))
	}
	if _, err := fsys.Stat(path.Join(dir, "node")); err != nil {
		return usage(fmt.Errorf("%s is not a data directory of chronik: it holds no file named node", dir))
	}
	lock, err := fsys.Lock(path.Join(dir, "lock"))
	if errors.Is(err, vfs.ErrLocked) {
		return usage(fmt.Errorf("a node runs on %s; stop it first", dir))
	}
	if err != nil {
		return err
	}
	if err := lock.Close(); err != nil {
		return err
	}
	return f(fsys)
}

func newLogVerify() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read everything and name what is not as it was written",
		Long: `Verify reads every file of a stopped node's data directory: metadata, WAL, checkpoint, segments, indexes, snapshots. It
names what is damaged with file and position, changes nothing, and exits with 1 if there is anything.`,
		Example: "  chronik log verify ./chronik-data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return stopped(args[0], func(fsys vfs.FS) error {
				return verifyDir(cmd.Context(), cmd.OutOrStdout(), fsys, args[0], asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	return cmd
}

// verification is what `log verify --json` prints.
type verification struct {
	Summary  store.Summary   `json:"summary"`
	Topics   int             `json:"topics"`
	Problems []store.Problem `json:"problems"`
}

func verifyDir(ctx context.Context, out io.Writer, fsys vfs.FS, dir string, asJSON bool) error {
	v := verification{Problems: []store.Problem{}}
	report := func(p store.Problem) {
		v.Problems = append(v.Problems, p)
		if !asJSON {
			_, _ = fmt.Fprintln(out, p) // a closed output is noticed at the summary
		}
	}
	inspected, err := controller.Inspect(fsys, path.Join(dir, "metadata"))
	if err != nil {
		report(store.Problem{File: path.Join(dir, "metadata"), Detail: err.Error()})
	} else {
		v.Topics = inspected.Image.TopicCount()
	}
	if v.Summary, err = store.Verify(ctx, fsys, dir, report); err != nil {
		return err
	}
	if asJSON {
		err = printJSON(out, v)
	} else {
		_, err = fmt.Fprintf(out, "%d topics, %d partitions, %d bytes in segments, %d WAL files with %d records to replay: %s\n",
			v.Topics, v.Summary.Partitions, v.Summary.Bytes, v.Summary.WALFiles, v.Summary.WALRecords, verdict(len(v.Problems)))
	}
	if err == nil && len(v.Problems) > 0 {
		err = &exitError{code: exitFailure}
	}
	return err
}

func verdict(problems int) string {
	switch problems {
	case 0:
		return "no problem found"
	case 1:
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", problems)
}

func newLogDump() *cobra.Command {
	return &cobra.Command{
		Use:     "dump DIR",
		Short:   "Print metadata, WAL operations and batches, a line each",
		Example: "  chronik log dump ./chronik-data | grep orders",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return stopped(args[0], func(fsys vfs.FS) error {
				out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
				err := dumpMetadata(out, fsys, args[0])
				if err == nil {
					err = store.Dump(cmd.Context(), fsys, args[0], out)
				}
				return errors.Join(err, out.Flush())
			})
		},
	}
}

// dumpMetadata prints the topics, so that the partitions' directories, which are named by topic ID, can be told apart.
func dumpMetadata(out io.Writer, fsys vfs.FS, dir string) error {
	inspected, err := controller.Inspect(fsys, path.Join(dir, "metadata"))
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	img := inspected.Image
	if _, err := fmt.Fprintf(out, "metadata: cluster %s, offset %d, committed %d, snapshot %d, term %d, %d entries\n",
		img.ClusterID(), img.Offset(), inspected.Committed, inspected.SnapshotOffset, inspected.Term, len(inspected.Entries)); err != nil {
		return err
	}
	for b := range img.Brokers() {
		if _, err := fmt.Fprintf(out, "broker %d: epoch %d, fenced %v, endpoints %v\n", b.ID, b.Epoch, b.Fenced, b.Endpoints); err != nil {
			return err
		}
	}
	for t := range img.Topics() {
		if _, err := fmt.Fprintf(out, "topic %s: id %s, %d partitions, config %v\n", t.Name, t.ID, t.Partitions.Len(), t.Config); err != nil {
			return err
		}
		for p := range t.Partitions.All() {
			if err := dumpPartition(out, t, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func dumpPartition(out io.Writer, t *metadata.Topic, p *metadata.Partition) error {
	_, err := fmt.Fprintf(out, "partition %s/%d: %s, leader %d epoch %d, replicas %v, isr %v\n",
		t.Name, p.Index, kafka.TopicPartition{Topic: t.ID, Partition: p.Index}, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR)
	return err
}
