package main

import (
	"fmt"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
)

func run(name string, params []string, verbose, resolve bool) error {
	l, err := drivers.OpenRunning()
	if err != nil {
		return err
	}
	if resolve {
		found := l.Index().Lookup(name)
		for _, m := range found {
			fmt.Println(m)
		}
		if len(found) == 0 {
			return fmt.Errorf("%q: %w", name, drivers.ErrNotFound)
		}
		return nil
	}
	loaded, err := l.LoadWith(name, params)
	if verbose {
		for _, m := range loaded {
			fmt.Println(m)
		}
	}
	return err
}
