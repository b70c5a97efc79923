package fixup

import (
	"fmt"

	"github.com/kamethod/kamethod/golden/wire"
)

// addBlocks makes known what came as blocks. Its contents have golden's UUID
// still, or one of their own, by which the clone's files shall name them then.
func (s *stack) addBlocks(p wire.Plan, d wire.DiskResult) error {
	if len(d.Blocks) != len(p.Blocks) {
		return fmt.Errorf("the plan has %d partitions as blocks and the node made %d", len(p.Blocks), len(d.Blocks))
	}
	for i, b := range p.Blocks {
		if b.OldUUID == "" {
			continue // no file can name it by what it has kept
		}
		now := b.OldUUID
		if i < len(d.BlockUUIDs) && d.BlockUUIDs[i] != "" {
			now = d.BlockUUIDs[i]
			if !stackID().MatchString(now) {
				return fmt.Errorf("blocks of %s: %q is no UUID", b.On, now)
			}
			s.ids = append(s.ids, id{"UUID", b.OldUUID, now})
		}
		v := volume{old: wire.Filesystem{On: b.On, Type: b.Type, OldUUID: b.OldUUID}, now: wire.FilesystemResult{Device: d.Blocks[i], UUID: now}}
		_, ok := s.places[b.On]
		if !ok {
			v.old.On = ""
			if v.old.Disk, v.old.Part, ok = p.Place(b.On); !ok {
				v.old.Disk = -1
			}
		}
		if err := s.locate(&v, p); err != nil {
			return fmt.Errorf("blocks of %s: %w", b.On, err)
		}
		s.blocks = append(s.blocks, v)
	}
	return nil
}
