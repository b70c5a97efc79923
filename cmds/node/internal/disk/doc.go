// Package disk carries out the disk part of a plan on the node it runs on: it
// finds the disks, chooses the one for each disk of the plan, refuses what
// doesn't fit before anything is written, then wipes, writes the table, makes
// the file systems and mounts them; or keeps those of an earlier clone that are
// the same already. It decides nothing about sizes (package
// golden/layout does) and puts no file into the file systems (package restore
// does).
//
//	/sys/block ──Inventory──▶ devices ──Choose──▶ chosen ──Check──▶ refused
//	                             plan ────┘                  │
//	                                   wipe ▶ sfdisk ▶ nodes ▶ mkfs ▶ mount
//	                       (update)    the same already ▶ e2fsck ────▲
package disk
