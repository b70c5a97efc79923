// Inspect looks at a clone's disks from inside a machine that has them: it
// reads a compare.Attached as JSON from its first argument, and writes a
// compare.Finding as gob, after its length in eight bytes, to its second one,
// which may be a disk.
//
// EXIT STATUS: 0 all was read, 1 it could not be.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/images/compare"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: inspect ATTACHED.json OUT")
		os.Exit(1)
	}
	if err := inspect(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "inspect:", err)
		os.Exit(1)
	}
}

func inspect(ctx context.Context, order, to string) error {
	b, err := os.ReadFile(order)
	if err != nil {
		return err
	}
	var a compare.Attached
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("read %s: %w", order, err)
	}
	root, err := os.MkdirTemp("", "clone")
	if err != nil {
		return err
	}
	found, err := a.Inspect(ctx, root)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	text.Write(make([]byte, 8))
	if err := gob.NewEncoder(&text).Encode(found); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(text.Bytes(), uint64(text.Len()-8))
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(text.Bytes()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
