package outbox

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const someText = `{"object":"chat.completion"}`

// inMemory is a JSON result that its engine holds in memory.
func inMemory(text string) Result {
	r := someResult()
	r.File, r.Data, r.Kind, r.Ext = "", text, "llm", "json"
	return r
}

// putText commits a short result.
func putText(t *testing.T, o *Outbox, jobID, text string) Entry {
	t.Helper()
	d, err := o.Begin(jobID, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.Commit(inMemory(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantText(t *testing.T, o *Outbox, e Entry, want string) {
	t.Helper()
	if got, err := o.ReadJSON(e); err != nil || string(got) != want {
		t.Errorf("read %s, %v, want %s", got, err, want)
	}
}

// file is the name of the one file of the first attempt at "job" while it is made.
const file = newMark + "job.1"

func TestDiskFaultsAtTheCommitOfAShortResult(t *testing.T) {
	for _, tc := range []struct {
		name    string
		fs      FS
		is      error // nil: stored all the same
		ballast bool  // it is there afterwards
	}{
		{"well", nil, nil, true},
		{"row 6: ENOSPC at the making", failing("open", file, 1, syscall.ENOSPC), nil, false},
		{"row 6: ENOSPC at the write once", failing("write", file, 1, syscall.ENOSPC), nil, false},
		{"row 6: ENOSPC at the write twice", failing("write", file, 2, syscall.ENOSPC), syscall.ENOSPC, false},
		{"row 7: EIO at the sync once", failing("sync", file, 1, syscall.EIO), nil, true},
		{"row 7: EIO at the sync twice", failing("sync", file, 2, syscall.EIO), syscall.EIO, true},
		{"row 7: EIO at the close once", failing("close", file, 1, syscall.EIO), nil, true},
		{"a short write once", halving(file, 1), nil, true},
		{"short writes", halving(file, 2), io.ErrShortWrite, true},
		{"row 8: it cannot be made", failing("open", file, 2, syscall.EROFS), syscall.EROFS, true},
		{"row 8: the rename into ready fails", failing("rename", "job.1", 1, syscall.EROFS), syscall.EROFS, true},
		{"row 7: EIO at the sync of ready", failing("syncdir", "ready", 1, syscall.EIO), syscall.EIO, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, tc.fs)
			d := draft(t, o, "job", someBytes) // the engine left something else
			e, err := d.Commit(inMemory(someText))
			if !errors.Is(err, tc.is) || tc.is == nil && err != nil {
				t.Fatalf("commit: %v, want %v", err, tc.is)
			}
			if o.ballast.Load() != tc.ballast {
				t.Errorf("ballast = %v", o.ballast.Load())
			}
			if tc.is != nil {
				wantNames(t, o.ready.dir)
				if _, ok := o.Find("job"); ok {
					t.Error("what was not stored is found")
				}
				if e, err = d.Commit(inMemory(someText)); err != nil { // the fault is over
					t.Fatal(err)
				}
			}
			wantNames(t, o.tmp)
			wantNames(t, o.ready.dir, "job.1")
			if e.Path() != "" || !e.JSON() || e.Size != int64(len(someText)) {
				t.Errorf("entry %+v", e)
			}
			wantText(t, o, e, someText)
			again := open(t, root, nil)
			after, ok := again.Find("job")
			if !ok || after.Prompt != someResult().Prompt || after.SHA256 != e.SHA256 || !after.Created.Equal(e.Created) {
				t.Fatalf("after a restart: %+v, %v", after, ok)
			}
			wantText(t, again, after, someText)
		})
	}
}

func TestADiscardedShortResultLeavesNothing(t *testing.T) {
	o := open(t, t.TempDir(), failing("rename", "job.1", 1, syscall.EROFS))
	d := draft(t, o, "job", someBytes)
	if _, err := d.Commit(inMemory(someText)); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
	wantNames(t, o.tmp, "job.1", file)
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o.tmp)
	if _, err := d.Commit(inMemory(someText)); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after discard: %v", err)
	}
}

// What is too long for a manifest, or is no text, has a folder and a file that is
// synced.
func TestLongResultsFromMemoryHaveAFolder(t *testing.T) {
	long := `"` + strings.Repeat("x", maxShort) + `"`
	for _, tc := range []struct {
		name, data, ext string
		fs              FS
		is              error
	}{
		{"long", long, "json", nil, nil},
		{"bytes", "\xff\xfe", "json", nil, nil},
		{"not JSON", someText, "webp", nil, nil},
		{"row 7: EIO at the sync once", long, "json", failing("sync", resultFile, 1, syscall.EIO), nil},
		{"row 7: EIO at the sync twice", long, "json", failing("sync", resultFile, 2, syscall.EIO), syscall.EIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			d, err := open(t, root, tc.fs).Begin("job", 0)
			if err != nil {
				t.Fatal(err)
			}
			r := inMemory(tc.data)
			r.Ext = tc.ext
			e, err := d.Commit(r)
			if !errors.Is(err, tc.is) || tc.is == nil && err != nil {
				t.Fatalf("commit: %v, want %v", err, tc.is)
			}
			if e, ok := open(t, root, nil).Find("job"); ok != (tc.is == nil) || e.Text != "" {
				t.Errorf("found %v, text %q", ok, e.Text)
			}
			if tc.is == nil {
				wantNames(t, e.at, manifestFile, resultFile)
				wantFile(t, e.Path(), []byte(tc.data))
			}
		})
	}
	d, err := open(t, t.TempDir(), nil).Begin("job", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(Result{Kind: "llm", Ext: "json"}); err == nil {
		t.Error("row 22: an empty result was stored")
	}
	if _, err := d.Commit(Result{Data: "{}", Ext: "json"}); err == nil {
		t.Error("a result without a kind was stored")
	}
}

func TestRow9DamagedShortResultsAreSetAside(t *testing.T) {
	put := func(change func(data []byte) []byte) func(*testing.T, Entry) {
		return func(t *testing.T, e Entry) {
			t.Helper()
			data, err := os.ReadFile(e.at)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(e.at, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	as := func(change func(*Entry)) func(*testing.T, Entry) {
		return func(t *testing.T, e Entry) {
			t.Helper()
			change(&e)
			data, err := encodeManifest(e)
			if err != nil {
				t.Fatal(err)
			}
			put(func([]byte) []byte { return data })(t, e)
		}
	}
	for name, damage := range map[string]func(*testing.T, Entry){
		"empty":         put(func([]byte) []byte { return nil }),
		"torn":          put(func(d []byte) []byte { return d[:len(d)/2] }),
		"zeroed":        put(func(d []byte) []byte { return make([]byte, len(d)) }),
		"longer":        put(func(d []byte) []byte { return append(d, ' ') }),
		"a flipped bit": put(func(d []byte) []byte { d[len(d)-9] ^= 1; return d }),
		"another's":     as(func(e *Entry) { e.JobID = "other" }),
		"no result":     as(func(e *Entry) { e.Text = "" }),
		"not a frame's": as(func(e *Entry) { e.Ext = "webp" }),
		"a manifest only": func(t *testing.T, e Entry) {
			t.Helper()
			if err := os.Remove(e.at); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(e.at, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, nil)
			waits, kept := putText(t, o, "waits", someText), putText(t, o, "kept", someText)
			putText(t, o, "whole", someText)
			if err := o.Keep(kept); err != nil {
				t.Fatal(err)
			}
			kept, _ = o.Find("kept")
			damage(t, waits)
			damage(t, kept)
			o = open(t, root, nil)
			wantNames(t, o.refused, "kept.1", "waits.1")
			wantNames(t, o.ready.dir, "whole.1")
			wantNames(t, o.kept.dir)
			if list := o.Entries(); len(list) != 1 || list[0].JobID != "whole" {
				t.Errorf("waiting: %+v", list)
			}
		})
	}
	t.Run("not valid JSON", func(t *testing.T) {
		o := open(t, t.TempDir(), nil)
		e := putText(t, o, "job", `{"object":`)
		if _, err := o.ReadJSON(e); !errors.Is(err, ErrDamaged) {
			t.Errorf("read: %v, want ErrDamaged", err)
		}
		wantNames(t, o.refused, "job.1")
	})
}

func TestShortResultsAreKeptTakenBackAndRefused(t *testing.T) {
	root := t.TempDir()
	o, slot := observed(t, root, nil)
	e := putText(t, o, "job", someText)
	if got := slot.Get(); got.Count != 1 || got.Bytes != e.Size || !got.Oldest.Equal(e.Created) {
		t.Errorf("shown: %+v", got)
	}
	o.noteTry(e, true, errors.New("status 404"))
	o, slot = observed(t, root, nil)
	e, _ = o.Find("job")
	if e.Tries != 1 || e.MissingSince.IsZero() {
		t.Errorf("after a try and a restart: %+v", e)
	}
	if err := o.Keep(e); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o.ready.dir)
	wantNames(t, o.kept.dir, "job.1")
	if got := slot.Get(); got.Count != 0 || len(got.Kept) != 1 || got.Kept[0].Bytes != e.Size {
		t.Errorf("shown: %+v", got)
	}
	o, slot = observed(t, root, nil)
	e, _ = o.Find("job")
	if e.KeptAt.IsZero() {
		t.Error("the time of its coming to kept/ is lost")
	}
	wantText(t, o, e, someText)
	to := filepath.Join(root, "saved.json")
	if err := o.SaveKept(slot.Get().Kept[0].Key, to); err != nil {
		t.Fatal(err)
	}
	wantFile(t, to, []byte(someText))
	if e, err := o.promote(e); err != nil || !e.KeptAt.IsZero() {
		t.Fatalf("taken back: %+v, %v", e, err)
	}
	wantNames(t, o.ready.dir, "job.1")
	if err := o.Refuse(e, errors.New("the studio takes no texts")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o.refused, "job.1")
	data, err := os.ReadFile(filepath.Join(o.refused, "job.1"))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := decodeManifest(data); err != nil || e.Reason != "the studio takes no texts" || e.Text != someText {
		t.Errorf("in refused/: %+v, %v", e, err)
	}
	second := putText(t, o, "job", someText) // its number is free again
	if err := o.Keep(second); err != nil {
		t.Fatal(err)
	}
	if gone, err := o.DiscardKept(slot.Get().Kept[0].Key); err != nil || gone.JobID != "job" {
		t.Errorf("discarded %+v, %v", gone, err)
	}
	wantNames(t, o.kept.dir)
	wantNames(t, o.tmp)
}

func TestKeptShortResultsExpire(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := open(t, root, nil)
		if err := o.Keep(putText(t, o, "old", someText)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keptFor - time.Second)
		if gone, next := o.expire(); len(gone) > 0 || time.Until(next) != time.Second {
			t.Errorf("expired early: %+v, next at %v", gone, next)
		}
		time.Sleep(time.Second)
		if gone, _ := o.expire(); len(gone) != 1 || gone[0].JobID != "old" {
			t.Errorf("expired: %+v", gone)
		}
		wantNames(t, o.kept.dir)
		wantNames(t, o.tmp)
	})
}

// While a short result waits, people get a copy, which ends with the waiting.
func TestReadable(t *testing.T) {
	root := t.TempDir()
	o := open(t, root, failing("write", shownMark+"waits.1.json", 1, syscall.ENOSPC))
	long := put(t, o, "long", someBytes)
	if path, err := o.Readable(long); err != nil || path != long.Path() {
		t.Errorf("a result in a folder lies at %q, %v", path, err)
	}
	show := func(o *Outbox, e Entry) string {
		t.Helper()
		path, err := o.Readable(e)
		if err != nil || filepath.Ext(path) != ".json" {
			t.Fatalf("readable at %q, %v", path, err)
		}
		wantFile(t, path, []byte(someText))
		return path
	}
	for name, end := range map[string]func(*Outbox, Entry) error{
		"delivered": func(o *Outbox, e Entry) error { _, err := o.Delivered(e); return err },
		"dropped":   func(o *Outbox, e Entry) error { return o.Drop(e) },
		"refused":   func(o *Outbox, e Entry) error { return o.Refuse(e, errors.New("no")) },
	} {
		e := putText(t, o, name, someText)
		path := show(o, e)
		if again := show(o, e); again != path {
			t.Errorf("%s: another copy at %q", name, again)
		}
		if err := o.Keep(e); err != nil {
			t.Fatal(err)
		}
		if kept := show(o, e); kept != path {
			t.Errorf("%s: kept, it is another copy at %q", name, kept)
		}
		if err := end(o, e); err != nil {
			t.Fatal(err)
		}
		wantNames(t, o.tmp)
		if _, err := o.Readable(e); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	e := putText(t, o, "waits", someText)
	if path, err := o.Readable(e); !errors.Is(err, syscall.ENOSPC) || path != "" {
		t.Errorf("row 6: %q, %v", path, err)
	}
	wantNames(t, o.tmp)
	show(o, e)
	o = open(t, root, nil) // as after a crash
	wantNames(t, o.tmp)
	e, _ = o.Find("waits")
	show(o, e)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, o.tmp)
	e = Entry{JobID: "waits", Attempt: 1, SHA256: e.SHA256}
	delete(o.shown, e.name())
	if _, err := o.Readable(e); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v, want ErrClosed", err)
	}
}

func TestDiskFaultsAfterTheAcknowledgementOfAShortResult(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fs    FS
		gone  bool // the entry has left ready/ in spite of the error
		clean bool // no error at all
	}{
		{"well", OS(), true, true},
		{"the rename out of ready fails", failing("rename", sentMark+"job.1", 1, syscall.EIO), false, false},
		{"the copy cannot be made", failing("open", "job.json", 1, syscall.EIO), true, false},
		{"row 6: ENOSPC at the copy", failing("write", "job.json", 1, syscall.ENOSPC), true, false},
		{"the removal fails", failing("remove", sentMark+"job.1", 1, syscall.EIO), true, true},
		{"the sync of tmp fails", failing("syncdir", "tmp", 1, syscall.EIO), true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, nil)
			o.fs = tc.fs
			e := putText(t, o, "job", someText)
			if _, err := o.Delivered(e); (err == nil) != tc.clean {
				t.Errorf("delivered: %v", err)
			}
			if _, found := o.Find("job"); found == tc.gone {
				t.Errorf("found = %v", found)
			}
			if err := o.Close(); err != nil {
				t.Error(err)
			}
			o = open(t, root, nil)
			if e, ok := o.Find("job"); ok {
				if _, err := o.Delivered(e); err != nil {
					t.Error(err)
				}
			}
			wantFile(t, filepath.Join(root, "results", "job.json"), []byte(someText))
			wantNames(t, o.tmp)
			wantNames(t, o.ready.dir)
		})
	}
}

// A disk that has no room for the copy of a delivered result keeps nobody from
// working.
func TestRow6NoRoomForTheCopyAtTheStart(t *testing.T) {
	root := t.TempDir()
	o := open(t, root, nil)
	e := putText(t, o, "job", someText)
	if err := os.Rename(e.at, filepath.Join(o.tmp, sentMark+"job.1")); err != nil { // a crash after the acknowledgement
		t.Fatal(err)
	}
	o = open(t, root, failing("write", "job.json", 1, syscall.ENOSPC))
	wantNames(t, o.tmp, sentMark+"job.1")
	if _, err := os.Stat(filepath.Join(o.results, "job.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a copy: %v", err)
	}
	o = open(t, root, nil)
	wantNames(t, o.tmp)
	wantFile(t, filepath.Join(o.results, "job.json"), []byte(someText))
}

// What an earlier result of the same name left on its way out is in nobody's way.
func TestLeftoversOfTheOtherForm(t *testing.T) {
	for name, short := range map[string]bool{"a folder before a file": true, "a file before a folder": false} {
		t.Run(name, func(t *testing.T) {
			o := open(t, t.TempDir(), nil)
			left := filepath.Join(o.tmp, sentMark+"job.1")
			var e Entry
			var err error
			if short {
				e, err = putText(t, o, "job", someText), os.MkdirAll(filepath.Join(left, "x"), 0o700)
			} else {
				e, err = put(t, o, "job", someBytes), os.WriteFile(left, []byte("x"), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Delivered(e); err != nil {
				t.Error(err)
			}
			wantNames(t, o.tmp)
		})
	}
}

// Earlier versions kept a short result in a folder, whose file was not synced:
// what a power cut may leave of it is replaced by what the manifest holds.
func TestRow4FoldersOfShortResultsAreStillRead(t *testing.T) {
	for name, left := range map[string][]byte{
		"whole":   []byte(someText),
		"lost":    nil,
		"empty":   {},
		"partial": []byte(someText[:9]),
		"zeroed":  make([]byte, len(someText)),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			o := open(t, root, nil)
			e := putText(t, o, "job", someText)
			manifest, err := os.ReadFile(e.at)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(e.at), os.Mkdir(e.at, 0o700),
				os.WriteFile(filepath.Join(e.at, manifestFile), manifest, 0o600)); err != nil {
				t.Fatal(err)
			}
			if left != nil {
				if err := os.WriteFile(filepath.Join(e.at, resultFile), left, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o = open(t, root, nil)
			e, ok := o.Find("job")
			if !ok || e.Path() == "" {
				t.Fatalf("found %v, at %q", ok, e.Path())
			}
			wantText(t, o, e, someText)
			wantFile(t, e.Path(), []byte(someText))
			if err := o.Keep(e); err != nil {
				t.Fatal(err)
			}
			e, _ = o.Find("job")
			path, err := o.Delivered(e)
			if err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, []byte(someText))
			wantNames(t, o.kept.dir)
			wantNames(t, o.tmp)
		})
	}
}

// A short result is on the disk with one sync of a file and one of a folder.
func TestAShortResultTakesTwoSyncs(t *testing.T) {
	var ops []string
	root := t.TempDir()
	o := open(t, root, nil)
	o.fs = faultFS{FS: OS(), before: func(op, name string) error {
		ops = append(ops, op+" "+name)
		return nil
	}}
	putText(t, o, "job", someText)
	if want := []string{
		"mkdir job.1", "open " + file, "write " + file, "sync " + file, "close " + file, "rename job.1", "syncdir ready", "remove job.1",
	}; !slices.Equal(ops, want) {
		t.Errorf("did %q, want %q", ops, want)
	}
	if data, err := os.ReadFile(filepath.Join(o.ready.dir, "job.1")); err != nil || !bytes.HasPrefix(data, []byte(manifestMagic)) {
		t.Errorf("in ready/: %.40q, %v", data, err)
	}
}
