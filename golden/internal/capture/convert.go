package capture

import "github.com/kamethod/kamethod/golden/wire"

func (d *describer) convert(f []wire.Filesystem) ([]wire.Filesystem, error) { return f, nil }
