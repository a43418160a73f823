package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"chronik/internal/config"
)

// addConfigFlags gives a command --config, --set and the flags of the keys that have one.
func addConfigFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	for _, k := range config.BrokerKeys() {
		switch {
		case k.Flag == "":
		case k.Type == config.List:
			flags.StringSlice(k.Flag, config.SplitList(k.Default), firstSentence(k.Doc))
		default:
			flags.String(k.Flag, k.Default, firstSentence(k.Doc))
		}
	}
	flags.String("config", "", "A TOML file with configuration keys (or $"+config.EnvConfig+").")
	flags.StringArray("set", nil, "`KEY=VALUE` of any configuration key; may be repeated. chronik help configuration lists them.")
}

func firstSentence(doc string) string {
	if i := strings.Index(doc, ". "); i > 0 {
		return doc[:i+1]
	}
	return doc
}

// loadConfig puts the configuration together from the command's flags, the environment and the file.
func loadConfig(cmd *cobra.Command) (*config.Config, error) {
	src := config.Sources{Flags: map[string]string{}, Environ: os.Environ()}
	keys := map[string]string{}
	for _, k := range config.BrokerKeys() {
		if k.Flag != "" {
			keys[k.Flag] = k.Name
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		key, ok := keys[f.Name]
		if !ok {
			return
		}
		src.Flags[key] = f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			src.Flags[key] = strings.Join(list.GetSlice(), ",")
		}
	})
	src.Set, _ = cmd.Flags().GetStringArray("set")
	src.FileName, _ = cmd.Flags().GetString("config")
	place := "--config"
	if src.FileName == "" {
		src.FileName, place = os.Getenv(config.EnvConfig), config.EnvConfig
	}
	if src.FileName != "" {
		text, err := os.ReadFile(src.FileName)
		if err != nil {
			return nil, usage(fmt.Errorf("%s: %w", place, err))
		}
		src.File = text
	}
	cfg, err := config.Load(src)
	if err != nil {
		return nil, usage(err)
	}
	return cfg, nil
}
