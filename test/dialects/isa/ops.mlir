// RUN: %dcomc opt %s | filecheck %s --match-full-lines --strict-whitespace
// RUN: %dcomc opt %s --print-debuginfo | %dcomc opt - --print-debuginfo | filecheck %s --check-prefix=LOC

// Every instruction of the table, as in assembly; a branch target is a label.

//      CHECK:  isa.kernel @all layout {rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64, a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 7 {
isa.kernel @all layout {
    rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64,
    a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64,
    span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64
} seed 7 {
// CHECK-NEXT:    isa.li r3, -15
  isa.li r3, -15
// CHECK-NEXT:    isa.li r31, 140737488355327
  isa.li r31, 140737488355327
// CHECK-NEXT:    isa.addi r7, r30, 64
  isa.addi r7, r30, 64
// CHECK-NEXT:    isa.loop 15, @end
  isa.loop 15, @end
// CHECK-NEXT:    isa.loop r9, @end
  isa.loop r9, @end
// CHECK-NEXT:    isa.exit.ngt s1, s31, @done
  isa.exit.ngt s1, s31, @done
// CHECK-NEXT:    isa.barrier
  isa.barrier
// CHECK-NEXT:    isa.wait t15
  isa.wait t15
// CHECK-NEXT:    isa.ld [r0+0x100], r1, 4096, 65536, 16, 0, t3
  isa.ld [r0+0x100], r1, 4096, 65536, 16, 0, t3
// CHECK-NEXT:    isa.st [r2+0x40], r5, 1048575, 4294967295, 255, 1, t15
  isa.st [r2+0x40], r5, 1048575, 4294967295, 255, 1, t15
// CHECK-NEXT:    isa.fill [r4+0x80], 512
  isa.fill [r4+0x80], 512
// CHECK-NEXT:    isa.mv.row [r0+0x100], [r3+0x0], [r2+0x40], 4, r7, 1
  isa.mv.row [r0+0x100], [r3+0x0], [r2+0x40], 4, r7, 1
// CHECK-NEXT:    isa.mv.col [r31+0x7ffff], [r0+0x8], [r1+0x10], r31, 32767, 0
  isa.mv.col [r31+0x7ffff], [r0+0x8], [r1+0x10], r31, 32767, 0
// CHECK-NEXT:    isa.dots [r0+0x800], [r6+0x0], [r0+0x20], r2, 256, 0
  isa.dots [r0+0x800], [r6+0x0], [r0+0x20], r2, 256, 0
// CHECK-NEXT:    isa.norm2 [r0+0x4], [r0+0x200], 64, 0
  isa.norm2 [r0+0x4], [r0+0x200], 64, 0
// CHECK-NEXT:    isa.subtract [r0+0x200], [r6+0x0], [r0+0x800], 1, 300, 0
  isa.subtract [r0+0x200], [r6+0x0], [r0+0x800], 1, 300, 0
// CHECK-NEXT:    isa.scale [r8+0x0], [r0+0x200], s5, 512, 0
  isa.scale [r8+0x0], [r0+0x200], s5, 512, 0
// CHECK-NEXT:    isa.put [r0+0x100], [r0+0x40], 1, 8, 4
  isa.put [r0+0x100], [r0+0x40], 1, 8, 4
// CHECK-NEXT:    isa.get [r2+0x20], [r5+0x7ffff], r3, 0, 255
  isa.get [r2+0x20], [r5+0x7ffff], r3, 0, 255
// CHECK-NEXT:    isa.madd [r0+0x4], [r1+0x200], [r2+0x8], 4, 300, 1, 2
  isa.madd [r0+0x4], [r1+0x200], [r2+0x8], 4, 300, 1, 2
// CHECK-NEXT:    isa.sub [r0+0x100], [r3+0x40], r2
  isa.sub [r0+0x100], [r3+0x40], r2
// CHECK-NEXT:    isa.sum [r0+0x4], [r0+0x100], 8
  isa.sum [r0+0x4], [r0+0x100], 8
// CHECK-NEXT:    isa.part.row [r0+0x4], [r3+0x40], 32, 512, 8, 0
  isa.part.row [r0+0x4], [r3+0x40], 32, 512, 8, 0
// CHECK-NEXT:    isa.part.col [r31+0x7ffff], [r0+0x40], 1048575, 2, 255, 16
  isa.part.col [r31+0x7ffff], [r0+0x40], 1048575, 2, 255, 16
// CHECK-NEXT:    isa.gather.row [r0+0x4], [r3+0x40], 32, 512, 8
  isa.gather.row [r0+0x4], [r3+0x40], 32, 512, 8
// CHECK-NEXT:    isa.gather.col [r0+0x4], [r3+0x40], 2, 1048575, 0
  isa.gather.col [r0+0x4], [r3+0x40], 2, 1048575, 0
// CHECK-NEXT:    isa.s.div s1, s2, s3
  isa.s.div s1, s2, s3
// CHECK-NEXT:    isa.reduce.row [r0+0x10], 2, 0
  isa.reduce.row [r0+0x10], 2, 0
// CHECK-NEXT:    isa.reduce.col [r0+0x10], r2, 0
  isa.reduce.col [r0+0x10], r2, 0
// CHECK-NEXT:    isa.bcast.row [r1+0x0], 255, 0
  isa.bcast.row [r1+0x0], 255, 0
// CHECK-NEXT:    isa.bcast.col [r2+0x0], 256, 0
  isa.bcast.col [r2+0x0], 256, 0
// CHECK-NEXT:    isa.allreduce.row [r1+0x0], 255, 8
  isa.allreduce.row [r1+0x0], 255, 8
// CHECK-NEXT:    isa.allreduce.col [r2+0x0], r3, 0
  isa.allreduce.col [r2+0x0], r3, 0
// CHECK-NEXT:    isa.s.li s4, 1.0
  isa.s.li s4, 1.0
// CHECK-NEXT:    isa.s.ld s1, [r0+0x4]
  isa.s.ld s1, [r0+0x4]
// CHECK-NEXT:    isa.s.st [r0+0x4], s1
  isa.s.st [r0+0x4], s1
// CHECK-NEXT:    isa.s.mul s1, s2, s3
  isa.s.mul s1, s2, s3
// CHECK-NEXT:    isa.s.max s3, s2, s1
  isa.s.max s3, s2, s1
// CHECK-NEXT:    isa.s.rsqrt s16, s8
  isa.s.rsqrt s16, s8
// CHECK-NEXT:    isa.s.where s1, s2, s3, s4
  isa.s.where s1, s2, s3, s4
// CHECK-NEXT:    isa.s.li s0, 1.0e-05
  isa.s.li s0, 1.0e-05 // the shortest decimal of the bits
// CHECK-NEXT:    isa.s.li s0, 0x7fc00001
  isa.s.li s0, 0x7fc00001
// CHECK-NEXT:    isa.s.li s0, -2.0
  isa.s.li s0, -2
// CHECK-NEXT:    isa.fill [r3+0x40], 16
  isa.fill [r3 + 64], 0x10
// CHECK-NEXT:    isa.label @end
  isa.label @end
// CHECK-NEXT:    isa.li r1, 1
  // LOC: isa.li r1, 1 loc("model.layers.10.mlp"("model.py":7:1))
  isa.li r1, 1 loc("model.layers.10.mlp"("model.py":7:1))
// CHECK-NEXT:    isa.li r2, 5 {note = "kept"}
  isa.li r2, 5 {note = "kept"}
// CHECK-NEXT:    isa.s.max s1, s2, s3
  "isa.s.max"() <{d = 1 : i64, a = 2 : i64, b = 3 : i64}> : () -> ()
// CHECK-NEXT:    isa.halt
  isa.halt
// CHECK-NEXT:    isa.label @done
  isa.label @done
// CHECK-NEXT:  }
}

// Streams side by side.
//      CHECK:  isa.kernel @pair layout {{.*}} seed 0 streams [@left at 0, 0 of 16 x 8, @right at 0, 8 of 16 x 8] {
isa.kernel @pair layout {
    rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64,
    a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64,
    span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64
} seed 0 streams [@left at 0, 0 of 16 x 8, @right at 0, 8 of 16 x 8] {
// CHECK-NEXT:    isa.label @left
  isa.label @left
// CHECK-NEXT:    isa.barrier
  isa.barrier
// CHECK-NEXT:    isa.label @right
  isa.label @right
// CHECK-NEXT:    isa.halt
  isa.halt
// CHECK-NEXT:  }
}

// A start vector that is the same in each row has no seed.
//      CHECK:  isa.kernel @mean layout {{.*}} start mean {
isa.kernel @mean layout {
    rows = 4 : i64, cols = 12 : i64, iterations = 3 : i64, slice_rows = 8 : i64, slice_cols = 8 : i64,
    a_offset = 0 : i64, a_stride = 128 : i64, start_offset = 128 : i64, u_offset = 144 : i64, u_stride = 48 : i64, v_offset = 192 : i64, alpha_offset = 240 : i64, bank_bytes = 264 : i64,
    span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64
} start mean {
// CHECK-NEXT:    isa.halt
  isa.halt
// CHECK-NEXT:  }
}
