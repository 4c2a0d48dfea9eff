package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"studioworker/worker/oneline"
)

// Router hands each job to the engine that its source names.
type Router struct {
	log     *slog.Logger
	engines []Engine // in roster order
}

// NewRouter makes a router over engines, in roster order: the synthetic engine
// comes last (engines spec §1.2). It logs the roster once. Two engines with the
// same id, or none at all, are an error.
func NewRouter(log *slog.Logger, engines ...Engine) (*Router, error) {
	if log == nil || len(engines) == 0 {
		return nil, errors.New("make router: a logger and at least one engine are required")
	}
	names := make([]string, 0, len(engines))
	for _, e := range engines {
		name := string(e.ID())
		if name == "" || slices.Contains(names, name) {
			return nil, fmt.Errorf("make router: engine id %q is empty or taken", name)
		}
		names = append(names, name)
	}
	log.Info("engines ready", "engine_count", len(names), "engines", strings.Join(names, ","))
	return &Router{log: log, engines: slices.Clone(engines)}, nil
}

// Roster returns the engines in roster order.
func (r *Router) Roster() []Engine { return slices.Clone(r.engines) }

// Models returns what this worker can run now: the models of all engines, by
// kind, each list sorted and without duplicates.
func (r *Router) Models() map[Kind][]string {
	models := map[Kind][]string{}
	for _, e := range r.engines {
		for kind, names := range e.Models() {
			models[kind] = append(models[kind], names...)
		}
	}
	for kind, names := range models {
		slices.Sort(names)
		models[kind] = slices.Compact(names)
	}
	return models
}

// Find returns the engine that lists a model by its exact name for a kind, in
// roster order (engines spec §1.3). Wildcards name no model.
func (r *Router) Find(kind Kind, model string) (ID, bool) {
	for _, e := range r.engines {
		if !strings.HasSuffix(model, "*") && slices.Contains(e.Models()[kind], model) {
			return e.ID(), true
		}
	}
	return "", false
}

// Run does one job on the engine that req.Source names, and on no other
// (protocol spec §4.7). It blocks until that engine has ended, checks the
// result file, and returns an *Error for everything that went wrong. progress
// may be nil; its steps never exceed their total.
func (r *Router) Run(ctx context.Context, req Request, progress func(Progress)) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, classify(ctx, req, context.Cause(ctx))
	}
	e, err := r.route(req)
	if err != nil {
		return Result{}, classify(ctx, req, err)
	}
	res, err := r.guard(ctx, e, req, clamp(progress))
	if err == nil {
		err = checkResult(req, res)
	}
	if err != nil {
		return Result{}, classify(ctx, req, err)
	}
	return res, nil
}

// route finds the engine for a job.
func (r *Router) route(req Request) (Engine, error) {
	if !slices.Contains(Kinds(), req.Kind) {
		return nil, UnsupportedKind(req.Source.Engine, req.Kind)
	}
	if !req.hasParameters() {
		return nil, BadInput(fmt.Sprintf("the %s job has no parameters", req.Kind))
	}
	if req.Source.Engine == "" {
		err := fmt.Errorf("no engine on this worker can serve model %q", req.Model)
		return nil, &Error{Class: ClassEngineMissing, Err: err}
	}
	for _, e := range r.engines {
		if e.ID() == req.Source.Engine {
			return e, nil
		}
	}
	err := fmt.Errorf("%s engine is not in this build; model %q needs a worker that has it", req.Source.Engine, req.Model)
	return nil, &Error{Class: ClassEngineMissing, Err: err}
}

// guard runs the engine and turns a panic into an error.
func (r *Router) guard(ctx context.Context, e Engine, req Request, progress func(Progress)) (res Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("engine panicked", "engine", e.ID(), "job_id", req.JobID,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = &Error{Class: ClassInternal, Err: fmt.Errorf("%s engine panicked: %v", e.ID(), v)}
		}
	}()
	return e.Run(ctx, req, progress)
}

// progressTextLimit is the length of a progress text in characters.
const progressTextLimit = 200

// clamp makes progress safe to show: engines read it from a child's output.
func clamp(progress func(Progress)) func(Progress) {
	if progress == nil {
		return func(Progress) {}
	}
	return func(p Progress) {
		p.Total = max(p.Total, 0)
		p.Step = max(p.Step, 0)
		if p.Total > 0 {
			p.Step = min(p.Step, p.Total)
		}
		p.Text = cut(oneline.Of(p.Text, progressTextLimit), progressTextLimit)
		progress(p)
	}
}
