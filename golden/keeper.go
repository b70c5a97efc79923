package golden

// keeper has the states of the machines on golden's disk, before a node's is
// erased, and before one is let go: golden may lose its power, too. Where it
// can't, they wait, until golden's disk has room again: a machine that is done
// and of which nobody knows would be erased once more.
//
// A busy disk takes seconds over it. Nobody who holds the deployment's lock
// waits for that, or no node would be heard meanwhile.
type keeper struct {
	begun, done int // syncs, by number; done: the last that went well
	busy        bool
	told        bool // it was said that the states aren't on the disk
}

// has tells whether what was true of a machine when this was first asked with
// its mark is on the disk, and sees to it that it will be. The mark is the
// number of the sync that does it, and 0 at first. The lock is held.
func (k *keeper) has(d *deployment, mark *int) bool {
	if d.states == nil {
		return true
	}
	if *mark == 0 {
		*mark = k.begun + 1
	}
	if k.done < *mark && !k.busy {
		k.busy = true
		k.begun++
		d.tasks.Go(func() { k.sync(d) })
	}
	return k.done >= *mark
}

func (k *keeper) sync(d *deployment) {
	err := d.states.Sync()
	d.mu.Lock()
	defer d.mu.Unlock()
	k.busy = false
	if err == nil {
		k.done = k.begun
		d.poke()
	} else if !k.told {
		d.Log.Error("nothing is erased and nobody is let go until golden can write down the states of the machines", "err", err)
	}
	k.told = err != nil
}
