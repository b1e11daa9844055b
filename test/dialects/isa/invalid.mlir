// RUN: %dcomc opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{layout does not have exactly the keys rows, cols, iterations, }}
isa.kernel @k layout {rows = 4 : i64} seed 0 {
  isa.halt
}

// -----

// expected-error @+1 {{layout entry 'rows' is no i64}}
isa.kernel @k layout {rows = 4 : i32, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.halt
}

// -----

// expected-error @+1 {{layout entry 'a_offset' is negative}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = -1 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.halt
}

// -----

// expected-error @+1 {{seed -1 is negative}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed -1 {
  isa.halt
}

// -----

// expected-error @+1 {{a kernel holds instructions and labels, not builtin.module}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  builtin.module {}
}

// -----

// expected-error @+1 {{label @here stands twice}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.label @here
  isa.halt
  isa.label @here
}

// -----

// expected-error @+1 {{'two words' is no name for a label: letters, digits, '_', '.' and '$'}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.label @"two words"
}

// -----

// expected-error @+1 {{unknown label @done}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.loop 4, @done
  isa.halt
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{isa.li: value = 281474976710656 does not fit integer of 48 bits}}
  "isa.li"() <{d = 1 : i64, value = 281474976710656 : i64}> : () -> ()
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{isa.reduce.row: length = 32800 does not fit count of 15 bits}}
  "isa.reduce.row"() <{x = 0 : i64, length = 32800 : i64, span = 0 : i64}> : () -> ()
}

// -----

// expected-error @+1 {{'isa.halt' expects parent op 'isa.kernel'}}
isa.halt

// -----

// expected-error @+1 {{'isa.label' expects parent op 'isa.kernel'}}
isa.label @here

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{r32 does not fit integer register of 5 bits}}
  isa.li r32, 1
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{s1 is no integer register, such as r3}}
  isa.li s1, 1
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{[r1+0x80000] does not fit buffer address}}
  isa.fill [r1+0x80000], 4
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  isa.li r1
// expected-error @+1 {{Expected ',' before operand 'value' of isa.li}}
}

// -----

isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 {
  // expected-error @+1 {{Operation isa.lii is not registered}}
  isa.lii r1, 4
}

// -----

// expected-error @+1 {{unknown label @right, at which a stream begins}}
isa.kernel @k layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 0 streams [@left at 0, 0 of 16 x 8, @right at 0, 8 of 16 x 8] {
  isa.label @left
  isa.halt
}

// -----

// expected-error @+1 {{a stream does not have exactly the keys entry, row, col, rows, cols}}
"isa.kernel"() <{sym_name = "k", layout = {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64}, streams = [{entry = "left"}]}> ({
  isa.halt
}) : () -> ()
