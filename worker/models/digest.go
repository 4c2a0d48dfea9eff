package models

import (
	"hash"
	"sync"
)

// digest hashes the blocks of a download in a goroutine of its own, beside the one
// that receives and writes them: on one processor after the other they take nearly
// twice as long. A few blocks lie between the two.
type digest struct {
	full    chan []byte
	free    chan []byte
	pending sync.WaitGroup // blocks that are not hashed yet
	ended   sync.WaitGroup
}

// digestBlocks is how many blocks lie between the two.
const digestBlocks = 4

// startDigest begins. The hash belongs to the digest until end, or for as long as
// nothing is added after settle.
func startDigest(h hash.Hash) *digest {
	d := &digest{full: make(chan []byte, digestBlocks), free: make(chan []byte, digestBlocks+1)}
	for range cap(d.free) {
		d.free <- make([]byte, copyBuffer)
	}
	d.ended.Go(func() { // until end
		for block := range d.full {
			h.Write(block)
			d.pending.Done()
			d.free <- block[:cap(block)]
		}
	})
	return d
}

// block returns a buffer for the next bytes; it goes back by add.
func (d *digest) block() []byte { return <-d.free }

// add takes the bytes in a buffer of block to be hashed.
func (d *digest) add(block []byte) {
	d.pending.Add(1)
	d.full <- block
}

// settle waits until all is hashed that was added.
func (d *digest) settle() { d.pending.Wait() }

// end waits for the rest, and for the goroutine.
func (d *digest) end() {
	close(d.full)
	d.ended.Wait()
}
