// Studio Worker lends this computer's GPU to a studio.
package main

import (
	"context"
	"os"

	"studioworker/app"
)

func main() {
	os.Exit(app.Main(context.Background(), os.Args[1:], app.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
