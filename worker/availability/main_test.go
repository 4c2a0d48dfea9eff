package availability

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // weekly hours are by the computer's clock
	goleak.VerifyTestMain(m)
}
