package netboot

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is many clients that read one file: most of them tftpReaders with
// maxPerAddress to an address, and real programs, from hosts of their own.
type crowd struct {
	l       *lab
	file    string
	want    []byte
	readers []*tftpReader
	limit   time.Duration

	mu   sync.Mutex
	took []time.Duration
	bad  []string
}

func (c *crowd) done(start time.Time, who string, got []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || !bytes.Equal(got, c.want) {
		c.bad = append(c.bad, fmt.Sprintf("%s: %d bytes of %d, %v", who, len(got), len(c.want), err))
		return
	}
	c.took = append(c.took, time.Since(start))
}

// gather makes n readers on a host that has no address yet.
func (c *crowd) gather(host string, n int, opts ...string) {
	c.l.t.Helper()
	for i := range (n + maxPerAddress - 1) / maxPerAddress {
		c.l.ip(host, fmt.Sprintf("addr add 10.77.0.%d/24 dev eth0", 20+i))
	}
	c.l.inNS(host, func() error {
		for i := range n {
			r, err := newReader(net.IPv4(10, 77, 0, byte(20+i/maxPerAddress)), c.file, opts...)
			if err != nil {
				return err
			}
			c.readers = append(c.readers, r)
		}
		return nil
	})
	c.l.t.Cleanup(func() {
		for _, r := range c.readers {
			r.close()
		}
	})
}

// read has all readers ask in one moment and none go on before each has had
// its first answer: so many transfers do run at once. Who was given up by then
// begins anew.
func (c *crowd) read() {
	start := time.Now()
	var opened, ended sync.WaitGroup
	opened.Add(len(c.readers))
	for i, r := range c.readers {
		ended.Go(func() {
			b, err := r.begin(c.limit)
			b = bytes.Clone(b)
			opened.Done()
			opened.Wait()
			if err == nil {
				err = r.rest(b, c.limit)
			}
			c.done(start, fmt.Sprintf("reader %d", i), r.got.Bytes(), err)
		})
	}
	ended.Wait()
}

// programs starts real clients, each so often. atftp 0.8 is not among them: it
// gives up when it is sent an OACK twice, as who has no processor for a quarter
// of a second is, or whose ACK is lost.
func (c *crowd) programs(hosts []string, each int) *sync.WaitGroup {
	c.l.t.Helper()
	const server = "10.77.0.1"
	var wg sync.WaitGroup
	for h, host := range hosts {
		for i := range each {
			out := filepath.Join(c.l.tmp, fmt.Sprintf("out-%d-%d", h, i))
			args := [][]string{
				{"tftp", "-4", "-m", "binary", server, "-c", "get", c.file, out},
				{"curl", "-sS", "--tftp-blksize", "1408", "-o", out, "tftp://" + server + "/" + c.file},
				{"busybox", "tftp", "-g", "-b", "1408", "-r", c.file, "-l", out, server},
			}[h%3]
			wg.Go(func() {
				start := time.Now()
				msg, err := runFor(c.limit, "ip", append([]string{"netns", "exec", host}, args...)...)
				if err != nil {
					err = fmt.Errorf("%w: %s", err, msg)
				}
				got, rerr := os.ReadFile(out)
				if err == nil {
					err = rerr
				}
				c.done(start, args[0], got, err)
			})
		}
	}
	return &wg
}

func (c *crowd) report(t *testing.T, n int) {
	t.Helper()
	for _, b := range c.bad[:min(len(c.bad), 10)] {
		t.Error(b)
	}
	if len(c.took) != n {
		t.Errorf("%d of %d have the file", len(c.took), n)
	}
	if slices.Sort(c.took); len(c.took) > 0 {
		t.Logf("%d clients, %d KiB each: the first after %v, half after %v, the last after %v", len(c.took), len(c.want)>>10,
			c.took[0].Round(time.Millisecond), c.took[len(c.took)/2].Round(time.Millisecond), c.took[len(c.took)-1].Round(time.Millisecond))
	}
}

// 512 machines read at once, four from each address: each gets every byte,
// and the server gives all that it took for them back.
func TestTFTPCrowd(t *testing.T) {
	needs(t, "tftp", "curl", "busybox")
	l := newLab(t)
	c := &crowd{l: l, file: "images/all.rdz", want: noise(200<<10 + 77), limit: 2 * time.Minute}
	l.write("tftp/"+c.file, string(c.want))
	first := l.host("52:54:00:77:01:01", "")
	var hosts []string
	for i := range 3 {
		hosts = append(hosts, l.host(fmt.Sprintf("52:54:00:77:02:%02x", i), fmt.Sprintf("10.77.0.%d/24", 10+i)))
	}
	const each = 4
	c.gather(first, maxTransfers-3*each, "blksize", "1408", "tsize", "0")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	fds, before := openFiles(t, srv), memoryOf(t, srv)
	wg := c.programs(hosts, each)
	c.read()
	peak := memoryOf(t, srv)
	wg.Wait()
	c.report(t, maxTransfers)
	t.Logf("the server's memory: %d MiB before, %d MiB when all were done", before>>20, peak>>20)
	if peak > before+maxTransfers<<20 { // the race detector has most of it
		t.Error("that is more than 1 MiB for each")
	}
	end := time.Now().Add(30 * time.Second)
	for strings.Count(srv.output(), "[sent all.rdz (TFTP)]") < maxTransfers && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	if n := strings.Count(srv.output(), "[sent all.rdz (TFTP)]"); n < maxTransfers {
		t.Errorf("%d transfers reported, want %d", n, maxTransfers)
	}
	if now := openFiles(t, srv); now > fds+4*gcAfterDrops {
		t.Errorf("%d open files before, %d now", fds, now)
	}
}

// One packet of a hundred is lost, each way: nobody waits for long.
func TestTFTPCrowdWithLoss(t *testing.T) {
	needs(t, "nft", "tftp", "curl", "busybox")
	l := newLab(t)
	c := &crowd{l: l, file: "images/all.rdz", want: noise(1<<20 + 4321), limit: 2 * time.Minute}
	l.write("tftp/"+c.file, string(c.want))
	first := l.host("52:54:00:77:01:01", "")
	hosts := []string{first}
	c.gather(first, 61, "blksize", "1408")
	var real []string
	for i := range 3 {
		real = append(real, l.host(fmt.Sprintf("52:54:00:77:02:%02x", i), fmt.Sprintf("10.77.0.%d/24", 10+i)))
	}
	l.ready(serveSpec{DHCP: DHCPOff})
	for _, ns := range append(append(hosts, real...), l.srv) { // each drops what comes in
		l.mustRun(ns, "nft", "add table ip loss")
		l.mustRun(ns, "nft", "add chain ip loss in { type filter hook input priority 0 ; }")
		l.mustRun(ns, "nft", "add rule ip loss in ip protocol udp numgen random mod 100 < 1 counter drop")
	}
	wg := c.programs(real, 1)
	c.read()
	wg.Wait()
	c.report(t, 64)
	if out := l.mustRun(l.srv, "nft", "list table ip loss"); strings.Contains(out, "packets 0 ") {
		t.Errorf("nothing was lost:\n%s", out)
	}
}

func openFiles(t *testing.T, p *process) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
