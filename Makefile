# Words for developers. What they do is in scripts/ and in the programs.
.DEFAULT_GOAL := help
.PHONY: help image nightly diskless test vmtest demo bench soak fuzz lint clean

help:
	@echo 'make image   vmlinuz, all.rdz, rescue.sqfs and a TFTP tree, in images/'
	@echo 'make nightly the same into DEST, with links by date and last; KEEP=7 builds stay; MIRROR=host:folder'
	@echo 'make diskless  an image that machines run in their memory; PACKAGES="a b" KEYS=~/.ssh/id.pub'
	@echo 'make test    all tests, set-up included; make test PKG=./golden/chain RUN=TestX for some'
	@echo 'make vmtest  clones of every kind in virtual machines; CELL=name for one of them'
	@echo 'make demo    clone a Debian to NODES=2 virtual machines; KEEP=1 keeps their disks'
	@echo 'make bench   what the chain carries, beside its peers; PART=b for a part of it'
	@echo 'make soak    200 random combinations of faults; SOAK="-n 20 -first 7" for others'
	@echo 'make fuzz    every fuzz target for TIME=1m each; PATTERN=netboot for some of them'
	@echo 'make lint    everything that reads the code without running it'
	@echo 'make clean   remove what make image made; not .cache/'

image:
	@scripts/deps-image.sh
	@go run ./cmds/admin/mkimage

nightly:
	@scripts/nightly.sh

diskless:
	@scripts/setup.sh
	@scripts/diskless.sh

test:
	@scripts/test.sh $(PKG) $(RUN)

vmtest:
	@scripts/vmtest.sh $(CELL)

# Built and executed, not "go run": that one would die of a SIGTERM and leave
# the demo, which cleans up, without its terminal.
demo:
	@scripts/setup.sh
	@$(MAKE) -s image
	@go build -o .cache/demo ./images/demo
	@exec .cache/demo

# Built and executed, as the demo is.
bench:
	@scripts/setup.sh
	@go build -o .cache/bench ./images/bench
	@exec .cache/bench $(if $(PART),--part $(PART)) $(if $(JSON),--json $(JSON)) $(if $(QUICK),--quick)

soak:
	@scripts/setup.sh
	@scripts/soak.sh $(SOAK)

fuzz:
	@scripts/fuzz.sh $(or $(TIME),1m) '$(or $(PATTERN),.)'

lint:
	@scripts/lint.sh

clean:
	rm -rf images/vmlinuz images/all.rdz images/rescue.sqfs images/manifest.json images/tftp images/diskless.* images/install
