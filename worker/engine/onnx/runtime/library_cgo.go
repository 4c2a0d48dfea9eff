//go:build cgo

package runtime

import (
	"errors"
	"fmt"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"
)

const built = true

// maxThreads bounds what one run takes of the processor.
const maxThreads = 8

// loaded is the library, with the model that ran last.
type loaded struct {
	model   string
	outputs string
	session *ort.DynamicAdvancedSession
}

// load loads the library at path. A process does it once.
func load(path string) (library, error) {
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return nil, err
	}
	return &loaded{}, nil
}

func (*loaded) version() string { return ort.GetVersion() }

// close lets everything go.
func (l *loaded) close() error {
	err := l.forget()
	return errors.Join(err, ort.DestroyEnvironment())
}

func (l *loaded) forget() error {
	if l.session == nil {
		return nil
	}
	err := l.session.Destroy()
	l.session, l.model = nil, ""
	return err
}

// open loads a model, unless it is loaded.
func (l *loaded) open(model string, inputs, outputs []string) error {
	key := fmt.Sprint(inputs, outputs)
	if l.session != nil && l.model == model && l.outputs == key {
		return nil
	}
	if err := l.forget(); err != nil {
		return err
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return err
	}
	defer func() { _ = options.Destroy() }() // the session has a copy
	if err := options.SetIntraOpNumThreads(min(runtime.NumCPU(), maxThreads)); err != nil {
		return err
	}
	session, err := ort.NewDynamicAdvancedSession(model, inputs, outputs, options)
	if err != nil {
		return fmt.Errorf("load the model: %w", err)
	}
	l.session, l.model, l.outputs = session, model, key
	return nil
}

// run runs a model (see library).
func (l *loaded) run(model string, inputs []Tensor, outputs []string) (made []Tensor, err error) {
	names := make([]string, len(inputs))
	for i, t := range inputs {
		names[i] = t.Name
	}
	if err := l.open(model, names, outputs); err != nil {
		return nil, err
	}
	var values []ort.Value
	results := make([]ort.Value, len(outputs))
	defer func() {
		for _, v := range append(values, results...) {
			if v != nil {
				err = errors.Join(err, v.Destroy())
			}
		}
	}()
	for _, t := range inputs {
		value, err := valueOf(t)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", t.Name, err)
		}
		values = append(values, value)
	}
	if err := l.session.Run(values, results); err != nil {
		return nil, fmt.Errorf("run the model: %w", err)
	}
	for i, v := range results {
		t := Tensor{Name: outputs[i], Shape: v.GetShape()}
		switch v := v.(type) {
		case *ort.Tensor[float32]:
			t.Floats = append([]float32{}, v.GetData()...)
		case *ort.Tensor[int64]:
			t.Ints = append([]int64{}, v.GetData()...)
		default:
			return nil, fmt.Errorf("output %s is neither float nor int64", outputs[i])
		}
		made = append(made, t)
	}
	return made, nil
}

func valueOf(t Tensor) (ort.Value, error) {
	if t.Ints != nil {
		return ort.NewTensor(ort.NewShape(t.Shape...), t.Ints)
	}
	return ort.NewTensor(ort.NewShape(t.Shape...), t.Floats)
}
