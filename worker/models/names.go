package models

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// nameLimit is the length of a file's name in bytes.
const nameLimit = 128

// unsafeFormats are kinds of files that run code when they are loaded.
var unsafeFormats = []string{".ckpt", ".pt", ".pth", ".pkl", ".pickle"}

// CheckName says why a file name that a studio gave is refused, or nil. A name
// is 1 to 128 of A-Z a-z 0-9 . _ - and never begins with a dot, so that it is
// one plain name on every system.
func CheckName(name string) error {
	refuse := func(why string) error {
		if len(name) > 40 {
			name = name[:40] + "…"
		}
		return &Error{Kind: Refused, Err: fmt.Errorf("model file name %q is refused: %s", name, why)}
	}
	switch {
	case name == "":
		return refuse("it is empty")
	case len(name) > nameLimit:
		return refuse(fmt.Sprintf("it is longer than %d characters", nameLimit))
	case name[0] == '.':
		return refuse("it begins with a dot")
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(plain, r) }):
		return refuse("only letters, digits, dot, underscore and hyphen are allowed")
	case !filepath.IsLocal(name) || deviceName(name):
		return refuse("the system keeps this name for a device")
	case name[len(name)-1] == '.':
		return refuse("it ends with a dot")
	case strings.HasSuffix(name, partSuffix) || strings.HasSuffix(name, stateSuffix):
		return refuse("unfinished downloads have such names")
	case slices.Contains(unsafeFormats, strings.ToLower(filepath.Ext(name))):
		return refuse("files of this format can run code when they are loaded; ask for a .gguf or .safetensors")
	}
	return nil
}

const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// deviceName tells the names that Windows keeps, with or without an extension.
func deviceName(name string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	if slices.Contains([]string{"CON", "PRN", "AUX", "NUL"}, base) {
		return true
	}
	return len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) && base[3] >= '0' && base[3] <= '9'
}

// FolderOf is the folder of a model's files (protocol spec §5.4): its id with
// everything outside A-Z a-z 0-9 . _ - replaced by _, so that it never holds a
// separator and never begins with a dot.
func FolderOf(model string) string {
	var b strings.Builder
	for _, r := range model {
		if !strings.ContainsRune(plain, r) {
			r = '_'
		}
		b.WriteRune(r)
	}
	switch folder := b.String(); {
	case folder == "":
		return "_"
	case folder[0] == '.':
		return "_" + folder[1:]
	default:
		return folder
	}
}

// CheckURL says why an address that a studio gave is refused, or nil: https is
// allowed, and http to this computer (protocol spec §5.4).
func CheckURL(address string) error {
	refuse := func(why string) error {
		return &Error{Kind: Refused, Err: fmt.Errorf("model address is refused: %s", why)}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return refuse("it is not a web address")
	}
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return refuse("http is allowed to this computer only; use https")
	default:
		return refuse(fmt.Sprintf("scheme %q is not https", u.Scheme))
	}
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// maxRedirects bounds the redirects of one request.
const maxRedirects = 3

// followRedirect lets a redirect pass that leads to where the first address
// could have led, and not from a public host into a private network.
func followRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &Error{Kind: Refused, Err: fmt.Errorf("more than %d redirects", maxRedirects)}
	}
	if err := CheckURL(r.URL.String()); err != nil {
		return err
	}
	from, to := via[0].URL.Hostname(), r.URL.Hostname()
	if from == to || loopback(from) && loopback(to) {
		return nil
	}
	private, err := leadsInside(r.Context(), to)
	if err != nil {
		return err
	}
	if private {
		return &Error{Kind: Refused, Err: fmt.Errorf("%s redirects into a private network (%s)", from, to)}
	}
	return nil
}

// leadsInside tells whether a host has an address that is not a public one.
func leadsInside(ctx context.Context, host string) (bool, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return !public(address), nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, fmt.Errorf("look up a redirect: %w", err)
	}
	return slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !public(a) }), nil
}

// public tells whether an address is one of the open internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate()
}
