package process_test

// runUnixChild knows no further modes on Windows.
func runUnixChild(string, []string) int { return 99 }
