package app

import "os"

func journalStream(*os.File, string) bool { return false }
