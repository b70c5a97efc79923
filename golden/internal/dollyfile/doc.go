// Package dollyfile reads the configuration files of Dolly and of Dolly+: what
// is copied, from where to where, and which machines get it. It knows both
// grammars and tells them apart by their first words. It opens no file that is
// named in one, and looks no machine up: that is package golden's.
//
//	infile stage2.img      ─┐                iofiles 2            ─┐
//	outfile /dev/ram3       │                /dev/hda1 > /dev/hda1 │
//	server servernode       │                a.tar.Z >> /boot      │
//	firstclient 12.12.12.1  ├─Parse─▶ File ◀─server max5.paris     │
//	lastclient 12.12.12.1   │   or           …                     │
//	clients 1               │ file:line:     clients 1             │
//	12.12.12.1              │ "word": why    max6.paris            │
//	endconfig              ─┘                endconfig            ─┘
package dollyfile
