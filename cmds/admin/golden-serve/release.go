package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
)

func releaseCommand() *cobra.Command {
	var o admin
	c := &cobra.Command{
		Use:   "release [NODE]…",
		Short: "Let nodes go that are done and wait: held (clone --hold), or for the pause of -d",
		Long: "Let nodes go that are done and wait: held (clone --hold), or for the pause between two\n" +
			"(clone -d). Without NODE all go, and those that are done later do, too. A node that is not\n" +
			"done yet goes as soon as it is. For one that failed, and was kept with its shell,\n" +
			"golden-serve waits no longer.\n" +
			"\nEXIT STATUS\n  0  they go\n  2  they don't: usage, no such session or node\n",
		RunE: func(cmd *cobra.Command, args []string) error { return o.release(cmd.Context(), args) },
	}
	o.add(c)
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func (o *admin) release(ctx context.Context, nodes []string) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	a, err := o.client()
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		nodes = []string{golden.AllNodes}
	}
	r, err := a.Release(ctx, nodes)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	var errs []error
	for _, part := range []struct {
		what string
		list []int
	}{{"released", r.Going}, {"released as soon as it is done", r.Later}, {"failed, and no longer waited for", r.Over}} {
		for _, n := range part.list {
			_, err := fmt.Printf("node %d: %s\n", n, part.what)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// logTo are the flags that say where what nodes say goes besides.
type logTo struct{ ftp, syslog string }

// ftpPassword is in the environment rather than on a command line that all
// users of this machine can read.
const ftpPassword = "KAMETHOD_FTP_PASSWORD"

func (o logTo) logs() (golden.Logs, error) {
	l := golden.Logs{Dir: stateDir()}
	var err error
	if o.ftp != "" {
		if l.FTP, err = golden.ParseLogFTP(o.ftp, os.Getenv(ftpPassword)); err != nil {
			return l, fmt.Errorf("--log-ftp: %w", err)
		}
	}
	if o.syslog != "" {
		if l.Syslog, err = golden.ParseLogSyslog(o.syslog); err != nil {
			return l, fmt.Errorf("--log-syslog: %w", err)
		}
	}
	return l, nil
}

func logsCommand() *cobra.Command {
	var o logsFlags
	c := &cobra.Command{
		Use:   "logs [-f] [NODE]",
		Short: "Print what the nodes of a session have said",
		Long: "Print what the nodes of a session have said, or one node: its number, node3, its address\n" +
			"or that of its network card. The session may run, or have ended: its logs are kept here, for the\n" +
			"last seven runs of each name.\n" +
			"\nEXIT STATUS\n  0    they are printed\n  2    there are none; usage\n  130  interrupted (-f)\n",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	f := c.Flags()
	f.StringVarP(&o.session, "session", "s", "kamethod", "name of the session")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what they say, until the session ends")
	f.StringVarP(&o.output, "output", "o", "", "json: one value a line")
	return c
}

type logsFlags struct {
	session, output string
	follow          bool
}

func (o *logsFlags) run(ctx context.Context, node string) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	enc := json.NewEncoder(os.Stdout)
	return golden.ReadLogs(ctx, stateDir(), o.session, node, o.follow, func(l golden.LogLine) error {
		if o.output == "json" {
			return enc.Encode(l)
		}
		_, err := fmt.Printf("node%d: %s %s\n", l.Node, l.Time.Local().Format("2006-01-02 15:04:05"), showable([]byte(l.Text)))
		return err
	})
}
