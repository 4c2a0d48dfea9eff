package dashboard

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"studioworker/studio/client"
	"studioworker/worker/protocol"
)

// modelRow is a model in the list.
type modelRow struct {
	client.ModelRecord
}

// BuiltIn says that workers have the model without a file, so it stays.
func (m modelRow) BuiltIn() bool {
	return m.ID == "espeak-ng" || (m.ModelSource.Engine == protocol.EngineSynthetic && strings.HasPrefix(m.ID, "synthetic-"))
}

// Bytes is how much its files need, as far as that is known.
func (m modelRow) Bytes() int64 {
	sum := int64(0)
	for _, f := range m.ModelSource.Files {
		if f.ApproxBytes != nil && *f.ApproxBytes < math.MaxInt64/maxFiles {
			sum += int64(*f.ApproxBytes) // #nosec G115 -- bounded
		}
	}
	return sum
}

func (d *Dashboard) models(_ http.ResponseWriter, _ *http.Request, v *visit) {
	var all client.Registry
	if err := d.ask(v, http.MethodGet, "/api/v1/registry", nil, &all); err != nil {
		d.failed(v, err)
		return
	}
	slices.SortFunc(all.Models, func(a, b client.ModelRecord) int { return strings.Compare(a.ID, b.ID) })
	rows := make([]modelRow, 0, len(all.Models))
	for _, m := range all.Models {
		rows = append(rows, modelRow{m})
	}
	d.show(v, http.StatusOK, "models", rows)
}

// exportModels hands on the registry as a file.
func (d *Dashboard) exportModels(w http.ResponseWriter, _ *http.Request, v *visit) {
	in, err := request(v, http.MethodGet, "/api/v1/registry", nil)
	if err != nil {
		d.failed(v, err)
		return
	}
	d.cfg.API.ServeHTTP(w, in)
}

// importModels writes the models of an exported file over what is there.
func (d *Dashboard) importModels(_ http.ResponseWriter, _ *http.Request, v *visit) {
	var out client.Imported
	came := false
	tooLarge := fmt.Sprintf("The file is larger than %s.", size(client.MaxRegistry))
	_, ok := d.readUpload(v, client.MaxRegistry, tooLarge, func(part *multipart.Part) error {
		data, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		came = true
		r, err := request(v, http.MethodPut, "/api/v1/registry", strings.NewReader(string(data)))
		if err != nil {
			return err
		}
		return d.do(v, r, &out)
	})
	if !ok {
		return
	}
	var err error
	if !came {
		err = errors.New("choose a file of models first")
	}
	d.after(v, err, fmt.Sprintf("Imported: %d new, %d replaced.", out.Created, out.Replaced), "/models")
}

const (
	maxFiles   = 16 // of one model in the form
	spareFiles = 2  // empty rows for more
)

// modelForm is the form for a model, and what was wrong with it.
type modelForm struct {
	Model client.ModelRecord
	Fresh bool // it is a new one
	Error string
}

func (m modelForm) title() string {
	if m.Fresh {
		return "New model"
	}
	return m.Model.ID
}

// Does says whether the model does a kind of job.
func (m modelForm) Does(kind protocol.TaskKind) bool { return slices.Contains(m.Model.Kinds, kind) }

// Engines are the ones that can be chosen.
func (m modelForm) Engines() []protocol.Engine {
	all := []protocol.Engine{
		protocol.EngineSDCpp, protocol.EngineLlamaCpp, protocol.EngineWhisper, protocol.EngineONNX, protocol.EnginePiper,
		protocol.EngineParakeet, protocol.EngineESpeak, protocol.EngineSynthetic,
	}
	if e := m.Model.ModelSource.Engine; e != "" && !slices.Contains(all, e) {
		all = append(all, e)
	}
	return all
}

// fileRow is one file in the form.
type fileRow struct {
	N                           int
	Role, URL, Filename, SHA256 string
}

// Count is the row's number as people count.
func (f fileRow) Count() int { return f.N + 1 }

// Files are the model's files, and empty rows for more.
func (m modelForm) Files() []fileRow {
	var out []fileRow
	for i, f := range m.Model.ModelSource.Files {
		row := fileRow{N: i, Role: f.Role, URL: f.URL, Filename: f.Filename}
		if f.SHA256 != nil {
			row.SHA256 = *f.SHA256
		}
		out = append(out, row)
	}
	for i := len(out); i < maxFiles && i < len(m.Model.ModelSource.Files)+spareFiles; i++ {
		out = append(out, fileRow{N: i})
	}
	return out
}

// Context is the size of a language model's context, empty when it is not set.
func (m modelForm) Context() string {
	if c := m.Model.ModelSource.CLIDefaults.ContextSize; c != nil {
		return strconv.FormatUint(uint64(*c), 10)
	}
	return ""
}

func newModel() client.ModelRecord {
	return client.ModelRecord{ModelSource: protocol.ModelSource{
		Engine: protocol.EngineSDCpp, CLIDefaults: protocol.CLIDefaults{CfgScale: 7, Steps: protocol.DefaultSteps, Width: protocol.DefaultSide, Height: protocol.DefaultSide},
	}}
}

func (d *Dashboard) editModel(_ http.ResponseWriter, r *http.Request, v *visit) {
	form := modelForm{Model: newModel(), Fresh: true}
	if id := r.URL.Query().Get("id"); id != "" {
		form.Fresh, form.Model = false, client.ModelRecord{}
		if err := d.ask(v, http.MethodGet, path("models", id), nil, &form.Model); err != nil {
			d.failed(v, err)
			return
		}
	}
	d.show(v, http.StatusOK, "model", form)
}

// saveModel writes what the form says over the model that it names. What the form
// does not show of an old one stays.
func (d *Dashboard) saveModel(_ http.ResponseWriter, r *http.Request, v *visit) {
	form := modelForm{Model: newModel(), Fresh: r.PostForm.Get("fresh") == "yes"}
	id := strings.TrimSpace(r.PostForm.Get("id"))
	var err error
	if form.Fresh {
		err = d.notTaken(v, id)
	} else if err = d.ask(v, http.MethodGet, path("models", id), nil, &form.Model); err != nil {
		d.failed(v, err)
		return
	}
	form.Model.ID = id
	if fillErr := fillModel(&form.Model, r.PostForm); err == nil {
		err = fillErr
	}
	if err == nil {
		err = d.ask(v, http.MethodPut, path("models", id), form.Model, nil)
	}
	if err == nil {
		d.after(v, nil, "Saved. New jobs use it as it is now.", "/models")
		return
	}
	form.Error = sentence(err.Error())
	if failed, ok := errors.AsType[*client.Error](err); ok {
		_, form.Error = words(failed)
	}
	d.show(v, http.StatusUnprocessableEntity, "model", form)
}

// notTaken refuses the id of a new model that there is already, and none at all.
func (d *Dashboard) notTaken(v *visit, id string) error {
	if id == "" {
		return errors.New("the model needs an id")
	}
	var old client.ModelRecord
	err := d.ask(v, http.MethodGet, path("models", id), nil, &old)
	if failed, ok := errors.AsType[*client.Error](err); ok && failed.Status == http.StatusNotFound {
		return nil
	}
	if err == nil {
		err = errors.New("there is a model of this id already")
	}
	return err
}

// fillModel puts the fields of the form into a model. All that can be read is there
// also when there is an error, so that nothing that was entered is lost.
func fillModel(m *client.ModelRecord, f url.Values) error {
	m.Kinds = nil
	for _, kind := range protocol.TaskKinds() {
		if slices.Contains(f["kind"], string(kind)) {
			m.Kinds = append(m.Kinds, kind)
		}
	}
	m.Aliases = nil
	for alias := range strings.SplitSeq(f.Get("aliases"), ",") {
		if alias = strings.TrimSpace(alias); alias != "" {
			m.Aliases = append(m.Aliases, alias)
		}
	}
	m.Default = f.Get("default") != ""
	source := &m.ModelSource
	source.Engine = protocol.Engine(f.Get("engine"))
	source.Files = filesOf(f, source.Files)
	vram, errVRAM := decimal(f, "vram", 0)
	scale, errScale := decimal(f, "scale", source.CLIDefaults.CfgScale)
	steps, errSteps := number(f, "steps", 1, 1000, int(source.CLIDefaults.Steps))
	width, errWidth := number(f, "width", 1, 8192, int(source.CLIDefaults.Width))
	height, errHeight := number(f, "height", 1, 8192, int(source.CLIDefaults.Height))
	context, errContext := number(f, "context", 1, 10_000_000, 0)
	m.VRAMGBEstimate = vram
	// The numbers are bounded above.
	source.CLIDefaults.CfgScale, source.CLIDefaults.Steps = scale, uint32(steps)        // #nosec G115
	source.CLIDefaults.Width, source.CLIDefaults.Height = uint32(width), uint32(height) // #nosec G115
	if source.CLIDefaults.ContextSize = nil; context > 0 {
		size := uint32(context) // #nosec G115
		source.CLIDefaults.ContextSize = &size
	}
	if len(m.Kinds) == 0 {
		return errors.New("choose at least one kind of job that the model does")
	}
	return cmp.Or(errVRAM, errScale, errSteps, errWidth, errHeight, errContext)
}

// filesOf reads the files of the form. What it does not show of an old file with the
// same address stays.
func filesOf(f url.Values, old []protocol.ModelFile) []protocol.ModelFile {
	var out []protocol.ModelFile
	for n := range maxFiles {
		field := func(name string) string { return strings.TrimSpace(f.Get(name + "-" + strconv.Itoa(n))) }
		file := protocol.ModelFile{Role: field("role"), URL: field("url"), Filename: field("filename")}
		if file.URL == "" && file.Filename == "" {
			continue
		}
		if file.Filename == "" {
			file.Filename = file.URL[strings.LastIndex(file.URL, "/")+1:]
			file.Filename, _, _ = strings.Cut(file.Filename, "?")
		}
		if sum := field("sha256"); sum != "" {
			file.SHA256 = &sum
		}
		if i := slices.IndexFunc(old, func(o protocol.ModelFile) bool { return o.URL == file.URL }); i >= 0 {
			file.ApproxBytes = old[i].ApproxBytes
		}
		out = append(out, file)
	}
	return out
}

func (d *Dashboard) removeModel(_ http.ResponseWriter, r *http.Request, v *visit) {
	err := d.ask(v, http.MethodDelete, path("models", r.PostForm.Get("id")), nil, nil)
	d.after(v, err, "Removed. Jobs that were queued with it keep it.", "/models")
}
