package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"chronik/internal/config"
)

// newConfigurationHelp is the help topic that lists every key.
func newConfigurationHelp() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "configuration",
		Short: "Every configuration key of a node and of topics",
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeKeys(cmd.OutOrStdout()) })
	return cmd
}

func writeKeys(w io.Writer) {
	_, _ = fmt.Fprint(w, `Keys of a node, for --set KEY=VALUE, for environment variables (num.partitions is CHRONIK_NUM_PARTITIONS) and for
TOML files (num.partitions = 6; a key below which there are others is quoted: "log.sync" = "interval"). Keys marked
"at run time" can also be changed by clients while the node runs, for one broker or for all (kafka-configs).

`)
	for _, k := range config.BrokerKeys() {
		writeKey(w, &k)
	}
	_, _ = fmt.Fprint(w, "Keys of a topic, given when it is made or changed later:\n\n")
	for _, k := range config.TopicKeys() {
		writeKey(w, &k)
	}
}

func writeKey(w io.Writer, k *config.Key) {
	about := []string{k.Type.String()}
	if k.Valid != "" {
		about = append(about, k.Valid)
	}
	if k.Default != "" {
		about = append(about, "default "+k.Default)
	}
	if k.Flag != "" {
		about = append(about, "--"+k.Flag)
	}
	if k.Dynamic {
		about = append(about, "at run time")
	}
	_, _ = fmt.Fprintf(w, "  %s  (%s)\n%s\n", k.Name, strings.Join(about, "; "), wrap(k.Doc, 100, "      "))
}

// wrap breaks a text at blanks into lines of at most width, each with the indent.
func wrap(text string, width int, indent string) string {
	var out strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != indent {
			out.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return out.String() + line + "\n"
}
