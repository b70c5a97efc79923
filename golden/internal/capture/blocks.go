package capture

// takeBlocks marks what is copied as blocks.
func (d *describer) takeBlocks(list []slot) {}
