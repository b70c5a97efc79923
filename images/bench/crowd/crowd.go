// Package crowd is many machines that boot from the network, in one process
// on one host: as many sockets as it takes, each read as a boot loader or a
// ROM would. It measures servers; it is no server and no test of what they
// say, but it compares every byte that it gets.
//
//	bench ──starts itself on a host, Env has the order──▶ crowd
//	                                                       ├─ 10.80.1.1:…  ⇄ server
//	      ◀──one line of JSON: seconds, bytes, failures──  └─ 10.80.1.N:…  ⇄ server
package crowd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Env is where a process finds its order.
const Env = "KABENCH_CROWD"

// What can be ordered.
const (
	TFTP = "tftp"
	HTTP = "http"
	DHCP = "dhcp"
)

// Order is what the machines of a crowd do, all at once.
type Order struct {
	Proto   string
	Server  netip.AddrPort
	Clients int
	Limit   time.Duration // for all of it

	// TFTP and HTTP
	File    string     // its name there
	Like    string     // a file here that has the same bytes
	From    netip.Addr // the first address to ask from
	PerAddr int        // clients that share an address
}

// Result is what came of it.
type Result struct {
	Seconds float64 // until the last client had all
	Bytes   int64
	Failed  int
	Cause   string // of the first failure
}

// Main carries the order out that is in Env and prints the result.
func Main(text string, out io.Writer) error {
	var o Order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("read the order %q: %w", text, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
	defer cancel()
	var r Result
	var err error
	switch o.Proto {
	case TFTP:
		r, err = o.fetch(ctx, tftpGet)
	case HTTP:
		r, err = o.fetch(ctx, httpGet)
	case DHCP:
		r, err = o.storm(ctx)
	default:
		err = fmt.Errorf("order for %q: there is no such crowd", o.Proto)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// fetch has every client get the file at once.
func (o Order) fetch(ctx context.Context, get func(context.Context, Order, net.IP, io.Writer) error) (r Result, err error) {
	want, err := os.ReadFile(o.Like)
	if err != nil {
		return r, err
	}
	start := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range o.Clients {
		from := o.From
		for range i / o.PerAddr {
			from = from.Next()
		}
		wg.Go(func() {
			c := &comparer{want: want}
			err := get(ctx, o, from.AsSlice(), c)
			if err == nil && len(c.want) > 0 {
				err = fmt.Errorf("%d bytes are missing", len(c.want))
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if r.Failed++; r.Failed == 1 {
					r.Cause = fmt.Sprintf("%v: %v", from, err)
				}
				return
			}
			r.Bytes += int64(len(want))
			r.Seconds = time.Since(start).Seconds()
		})
	}
	wg.Wait()
	return r, nil
}

// comparer is written what a client gets.
type comparer struct{ want []byte }

func (c *comparer) Write(p []byte) (int, error) {
	if len(p) > len(c.want) || string(p) != string(c.want[:len(p)]) {
		return 0, fmt.Errorf("other bytes than the file's, %d before its end", len(c.want))
	}
	c.want = c.want[len(p):]
	return len(p), nil
}
