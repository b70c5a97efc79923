package golden

import (
	"testing"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// A machine whose stage 2 came by NFS, HTTP or FTP is first heard of in stage 2.
// It becomes a clone beside one that came down the chain all the way, and so
// does a session of such machines alone.
func TestCloneFromFileServer(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	for _, tt := range []struct {
		name string
		into func(a, b *machine)
	}{
		{"one of two", func(a, b *machine) {
			a.must(wire.Stage2, nil)
			b.intoStage2()
		}},
		{"both", func(a, b *machine) {
			a.must(wire.Stage2, nil)
			b.must(wire.Stage2, nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, 2)
			l.start()
			a, b := l.machine(one), l.machine(two)
			tt.into(a, b)
			together([]*machine{a, b}, func(m *machine) {
				m.prepare()
				m.finish()
				m.wantRelease()
			})
			l.wantReleased(2)
			for _, n := range l.result.Nodes {
				if n.State != status.Released {
					t.Errorf("node %d is %s", n.Number, n.State)
				}
			}
		})
	}
}
