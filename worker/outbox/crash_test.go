package outbox

const crashStep = "STUDIO_WORKER_OUTBOX_CRASH_STEP"

func crashChild() error { return nil }
