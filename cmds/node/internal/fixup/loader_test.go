package fixup

import (
	"strings"
	"testing"
)

func TestCheckMenu(t *testing.T) {
	for _, tt := range []struct{ name, menu, want string }{
		{"good", "menuentry 'x' {\nlinux /vmlinuz root=UUID=" + rootNow + "\n}", ""},
		{"good, by device", "menuentry 'x' {\nlinux /vmlinuz root=/dev/vda1\n}", ""},
		{"golden's root too", "menuentry 'x' {\nsearch " + rootWas + "\nlinux /vmlinuz root=UUID=" + rootNow + "\n}", "still names golden's file system " + rootWas},
		{"golden's swap", "menuentry 'x' {\nlinux /vmlinuz root=UUID=" + rootNow + " resume=UUID=" + swapWas + "\n}", swapWas},
		{"another root", "menuentry 'x' {\nlinux /vmlinuz root=/dev/sda1\n}", "doesn't name the root"},
		{"no kernel", "search " + rootNow + "\n", "no entry"},
		{"empty", "", "doesn't name the root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClone(t, t.TempDir(), map[string]string{"boot/grub/grub.cfg": tt.menu}, nil)
			err := c.checkMenu("/boot/grub/grub.cfg")
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
