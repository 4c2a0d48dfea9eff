// Package testgraph makes small ONNX models for tests: one that looks like LaMa
// from outside, and one that looks like a Piper voice.
package testgraph

import (
	"encoding/binary"
	"math"
)

// Numbers of the format: element types, and its versions.
const (
	float    = 1
	int64s   = 7
	irFormat = 8
	opset    = 13
)

// message is a protocol buffer under construction.
type message []byte

func (m message) varint(field int, v uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3), v)
}

func (m message) bytes(field int, data []byte) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|2)
	return append(binary.AppendUvarint(m, uint64(len(data))), data...)
}

func (m message) text(field int, s string) message { return m.bytes(field, []byte(s)) }

// value describes an input or output; a side of -1 is of any length.
func value(name string, kind uint64, sides ...int64) message {
	var shape message
	for _, side := range sides {
		dim := message{}.text(2, name+"_n")
		if side >= 0 {
			dim = message{}.varint(1, uint64(side))
		}
		shape = shape.bytes(1, dim)
	}
	tensor := message{}.varint(1, kind).bytes(2, shape)
	return message{}.text(1, name).bytes(2, message{}.bytes(1, tensor))
}

// floats is a constant.
func floats(name string, sides []int64, values ...float32) message {
	var m message
	for _, side := range sides {
		m = m.varint(1, uint64(side))
	}
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return m.varint(2, float).text(8, name).bytes(9, raw)
}

// ints is a constant list.
func ints(name string, values ...int64) message {
	m := message{}.varint(1, uint64(len(values))).varint(2, int64s).text(8, name)
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return m.bytes(9, raw)
}

// node is one operation.
func node(operation, output string, inputs ...string) message {
	var m message
	for _, in := range inputs {
		m = m.text(1, in)
	}
	return m.text(2, output).text(4, operation)
}

// number gives a node an attribute.
func (m message) number(name string, v uint64) message {
	const kindInt = 2
	return m.bytes(5, message{}.text(1, name).varint(3, v).varint(20, kindInt))
}

// model puts the parts together.
func model(nodes, constants, inputs []message, output message) []byte {
	var graph message
	for _, n := range nodes {
		graph = graph.bytes(1, n)
	}
	graph = graph.text(2, "g")
	for _, c := range constants {
		graph = graph.bytes(5, c)
	}
	for _, in := range inputs {
		graph = graph.bytes(11, in)
	}
	graph = graph.bytes(12, output)
	return message{}.varint(1, irFormat).bytes(7, graph).bytes(8, message{}.text(1, "").varint(2, opset))
}

// LaMa is a model that answers image·(1−mask) + 0.5·mask, times scale: half grey
// where the mask is, the picture elsewhere.
func LaMa(scale float32) []byte {
	return model(
		[]message{
			node("Sub", "rest", "one", "mask"), node("Mul", "kept", "image", "rest"), node("Mul", "filled", "half", "mask"),
			node("Add", "sum", "kept", "filled"), node("Mul", "output", "sum", "scale"),
		},
		[]message{floats("one", nil, 1), floats("half", nil, 0.5), floats("scale", nil, scale)},
		[]message{value("image", float, 1, 3, 512, 512), value("mask", float, 1, 1, 512, 512)},
		value("output", float, 1, 3, 512, 512))
}

// VoicePeriod is how many samples the voice makes of each phoneme.
const VoicePeriod = 64

// Voice is a model with the inputs of a Piper voice of one speaker. Of each
// phoneme id it makes one period of a sine, as loud as the id is high.
func Voice() []byte {
	wave := make([]float32, VoicePeriod)
	for i := range wave {
		wave[i] = float32(math.Sin(2 * math.Pi * float64(i) / VoicePeriod))
	}
	return model(
		[]message{
			node("Cast", "ids", "input").number("to", float), node("Reshape", "column", "ids", "column_shape"),
			node("Mul", "waves", "column", "wave"), node("Reshape", "flat", "waves", "flat_shape"),
			// The other inputs must be used, or the model has them not.
			node("ReduceSum", "noise", "scales").number("keepdims", 0), node("Mul", "none", "noise", "zero"),
			node("Cast", "lengths", "input_lengths").number("to", float), node("ReduceSum", "length", "lengths").number("keepdims", 0),
			node("Mul", "no_length", "length", "zero"), node("Add", "nothing", "none", "no_length"),
			node("Add", "output", "flat", "nothing"),
		},
		[]message{ints("column_shape", 1, -1, 1), ints("flat_shape", 1, 1, -1), floats("wave", []int64{1, 1, VoicePeriod}, wave...), floats("zero", nil, 0)},
		[]message{value("input", int64s, 1, -1), value("input_lengths", int64s, 1), value("scales", float, 3)},
		value("output", float, 1, 1, -1))
}
