// RUN: %dcomc opt %s -p lower-cluster-to-isa | filecheck %s
// RUN: sed -e 's/chunks = 1 /chunks = 4 /' -e 's/slice_rows = 24/slice_rows = 32/' %s > %t.streamed.mlir
// RUN: %dcomc opt %t.streamed.mlir -p lower-cluster-to-isa | filecheck %s --check-prefix=STREAMED
// RUN: sed -e 's/chunks = 1 /chunks = 2 /' -e 's/slice_rows = 24/slice_rows = 32/' %s > %t.two.mlir
// RUN: %dcomc opt %t.two.mlir -p lower-cluster-to-isa | filecheck %s --check-prefix=TWO
// RUN: sed -e 's/, banks = {.*}}/}/' %s > %t.unscheduled.mlir
// RUN: not %dcomc opt %t.unscheduled.mlir -p lower-cluster-to-isa 2>&1 | filecheck %s --check-prefix=UNSCHEDULED
// RUN: %dcomc opt %s -p lower-cluster-to-isa --print-debuginfo | filecheck %s --check-prefix=LOC

cluster.kernel @k attributes {seed = 3 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 16 : i64, slice_rows = 24 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, banks = {a_offset = 0 : i64, a_stride = 768 : i64, alpha_offset = 20480 : i64, bank_bytes = 20608 : i64, start_offset = 12288 : i64, u_offset = 13056 : i64, u_stride = 256 : i64, v_offset = 17152 : i64}} {
  %a = cluster.matrix {chunks = 1 : i64, offset = 1024 : i64} : !cluster.matrix<380x250> loc("set up"("llama.py":10:1))
  %u = cluster.alloc {offset = 0 : i64} : !cluster.basis<4x380, rows>
  %v = cluster.alloc {offset = 192 : i64} : !cluster.basis<3x250, cols>
  %y = cluster.alloc {offset = 288 : i64} : !cluster.vector<380, rows>
  %z = cluster.alloc {offset = 384 : i64} : !cluster.vector<250, cols>
  %dots = cluster.alloc {offset = 448 : i64} : !cluster.cells<3>
  %norm = cluster.alloc {offset = 460 : i64} : !cluster.cells<1>
  cluster.zero %u : !cluster.basis<4x380, rows>
  cluster.load_start %u : !cluster.basis<4x380, rows>
  %t = cluster.constant 0.5
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.matvec_transposed %a, %u[%j] into %z : !cluster.matrix<380x250>, !cluster.basis<4x380, rows>, !cluster.vector<250, cols> loc("z = A^T u"("llama.py":20:1))
    cluster.all_reduce %z across "rows" : !cluster.vector<250, cols> loc("z = A^T u"("llama.py":21:1))
    cluster.dots %v, %z into %dots first %j : !cluster.basis<3x250, cols>, !cluster.vector<250, cols>, !cluster.cells<3>
    cluster.all_reduce %dots first %j across "cols" : !cluster.cells<3>
    cluster.subtract %v, %dots from %z first %j : !cluster.basis<3x250, cols>, !cluster.cells<3>, !cluster.vector<250, cols>
    cluster.norm2 %z into %norm : !cluster.vector<250, cols>, !cluster.cells<1>
    cluster.all_reduce %norm across "cols" : !cluster.cells<1>
    %n = cluster.load %norm : !cluster.cells<1>
    %m = cluster.max %n, %t
    %p = cluster.mul %m, %t
    %q = cluster.rsqrt %n
    %r = cluster.where_greater %n, %p, %q
    cluster.store %r, %dots[%j] : !cluster.cells<3>
    cluster.store %m, %norm : !cluster.cells<1>
    cluster.scale %z by %r into %v[%j] : !cluster.vector<250, cols>, !cluster.basis<3x250, cols>
    cluster.matvec %a, %v[%j] into %y : !cluster.matrix<380x250>, !cluster.basis<3x250, cols>, !cluster.vector<380, rows>
    cluster.all_reduce %y across "cols" : !cluster.vector<380, rows>
    cluster.dots %u, %y into %dots first %j shift 1 : i64 : !cluster.basis<4x380, rows>, !cluster.vector<380, rows>, !cluster.cells<3>
    cluster.scale %y by %r into %u[%j shift 1 : i64] : !cluster.vector<380, rows>, !cluster.basis<4x380, rows>
  }
  cluster.output %u as "u" : !cluster.basis<4x380, rows>
  cluster.output %v as "v" : !cluster.basis<3x250, cols>
  cluster.output %dots as "alpha" : !cluster.cells<3>
  cluster.output %dots as "beta" : !cluster.cells<3>
}

// CHECK: isa.kernel @k layout {rows = 380 : i64, cols = 250 : i64, iterations = 3 : i64, slice_rows = 24 : i64, slice_cols = 16 : i64, a_offset = 0 : i64, a_stride = 768 : i64, start_offset = 12288 : i64, u_offset = 13056 : i64, u_stride = 256 : i64, v_offset = 17152 : i64, alpha_offset = 20480 : i64, bank_bytes = 20608 : i64, span_rows = 0 : i64, span_cols = 0 : i64, folded = 0 : i64, in_flight = 1 : i64} seed 3 {
// The activation is on its way before anything else: 3 x 2 tiles a cluster.
// CHECK-NEXT: isa.addi r2, r1, 0
// CHECK-NEXT: isa.ld [r0+0x400], r2, 768, 768, 0, 0, t0
// CHECK-NEXT: isa.fill [r0+0x0], 192
// The start vector: cluster row i takes 48 bytes from 48 i on.
// CHECK-NEXT: isa.addi r2, r1, 12288
// CHECK-NEXT: isa.ld [r0+0x0], r2, 48, 48, 0, 0, t2
// CHECK-NEXT: isa.wait t2
// CHECK-NEXT: isa.s.li s0, 0.5
// The numbers of the turn and of the next, and the bytes of the vectors before it: of U, of cells, of V.
// CHECK-NEXT: isa.li r3, 0
// CHECK-NEXT: isa.li r4, 1
// CHECK-NEXT: isa.li r6, 0
// CHECK-NEXT: isa.li r7, 0
// CHECK-NEXT: isa.li r8, 0
// CHECK-NEXT: isa.loop 3, @done
// A^T u: partial sums lie along the columns of clusters.
// CHECK-NEXT: isa.wait t0
// CHECK-NEXT: isa.mv.col [r0+0x180], [r0+0x400], [r6+0x0], 3, 2, 0
// CHECK-NEXT: isa.reduce.col [r0+0x180], 16, 0
// CHECK-NEXT: isa.bcast.col [r0+0x180], 16, 0
// As many vectors as there are so far, of U one more; sums of slices lie along the rows.
// CHECK-NEXT: isa.dots [r0+0x1c0], [r0+0xc0], [r0+0x180], r3, 16, 0
// CHECK-NEXT: isa.reduce.row [r0+0x1c0], r3, 0
// CHECK-NEXT: isa.bcast.row [r0+0x1c0], r3, 0
// CHECK-NEXT: isa.subtract [r0+0x180], [r0+0xc0], [r0+0x1c0], r3, 16, 0
// CHECK-NEXT: isa.norm2 [r0+0x1cc], [r0+0x180], 16, 0
// CHECK-NEXT: isa.reduce.row [r0+0x1cc], 1, 0
// CHECK-NEXT: isa.bcast.row [r0+0x1cc], 1, 0
// CHECK-NEXT: isa.s.ld s1, [r0+0x1cc]
// CHECK-NEXT: isa.s.max s2, s1, s0
// CHECK-NEXT: isa.s.mul s3, s2, s0
// CHECK-NEXT: isa.s.rsqrt s4, s1
// One matrix on the whole grid: nothing else needs the turns after a breakdown.
// CHECK-NEXT: isa.exit.ngt s1, s3, @done
// CHECK-NEXT: isa.s.st [r7+0x1c0], s4
// CHECK-NEXT: isa.s.st [r0+0x1cc], s2
// CHECK-NEXT: isa.scale [r8+0xc0], [r0+0x180], s4, 16, 0
// CHECK-NEXT: isa.wait t0
// CHECK-NEXT: isa.mv.row [r0+0x120], [r0+0x400], [r8+0xc0], 3, 2, 0
// CHECK-NEXT: isa.reduce.row [r0+0x120], 24, 0
// CHECK-NEXT: isa.bcast.row [r0+0x120], 24, 0
// CHECK-NEXT: isa.dots [r0+0x1c0], [r0+0x0], [r0+0x120], r4, 24, 0
// CHECK-NEXT: isa.scale [r6+0x30], [r0+0x120], s4, 24, 0
// CHECK-NEXT: isa.addi r3, r3, 1
// CHECK-NEXT: isa.addi r4, r4, 1
// CHECK-NEXT: isa.addi r6, r6, 48
// CHECK-NEXT: isa.addi r7, r7, 4
// CHECK-NEXT: isa.addi r8, r8, 32
// CHECK-NEXT: isa.label @done
// U from the first cluster of each row; V from the first of each column; scalars from one.
// CHECK-NEXT: isa.addi r2, r1, 13056
// CHECK-NEXT: isa.st [r0+0x0], r2, 192, 256, 0, 1, t3
// CHECK-NEXT: isa.addi r2, r1, 17152
// CHECK-NEXT: isa.st [r0+0xc0], r2, 96, 0, 1, 0, t3
// CHECK-NEXT: isa.addi r2, r1, 20480
// CHECK-NEXT: isa.st [r0+0x1c0], r2, 12, 0, 1, 1, t3
// CHECK-NEXT: isa.addi r2, r1, 20492
// CHECK-NEXT: isa.st [r0+0x1c0], r2, 12, 0, 1, 1, t3
// CHECK-NEXT: isa.halt
// CHECK-NEXT: }

// Streamed in 4 chunks of a tile row: A^T u adds up from zero, with pairs of chunks in a loop but for the last, which
// begins the next pass.
// STREAMED-LABEL: isa.kernel @k
// STREAMED-NEXT: isa.addi r2, r1, 0
// STREAMED-NEXT: isa.ld [r0+0x400], r2, 256, 768, 0, 0, t0
// STREAMED: isa.loop 3, @done
// STREAMED-NEXT: isa.fill [r0+0x180], 64
// STREAMED-NEXT: isa.addi r5, r6, 0
// STREAMED-NEXT: isa.addi r2, r1, 256
// STREAMED-NEXT: isa.loop 1, @pass1
// STREAMED-NEXT: isa.ld [r0+0x500], r2, 256, 768, 0, 0, t1
// STREAMED-NEXT: isa.wait t0
// STREAMED-NEXT: isa.mv.col [r0+0x180], [r0+0x400], [r5+0x0], 1, 2, 1
// STREAMED-NEXT: isa.addi r5, r5, 16
// STREAMED-NEXT: isa.addi r2, r2, 256
// STREAMED-NEXT: isa.ld [r0+0x400], r2, 256, 768, 0, 0, t0
// STREAMED-NEXT: isa.wait t1
// STREAMED-NEXT: isa.mv.col [r0+0x180], [r0+0x500], [r5+0x0], 1, 2, 1
// STREAMED-NEXT: isa.addi r5, r5, 16
// STREAMED-NEXT: isa.addi r2, r2, 256
// STREAMED-NEXT: isa.label @pass1
// STREAMED-NEXT: isa.ld [r0+0x500], r2, 256, 768, 0, 0, t1
// STREAMED-NEXT: isa.wait t0
// STREAMED-NEXT: isa.mv.col [r0+0x180], [r0+0x400], [r5+0x0], 1, 2, 1
// STREAMED-NEXT: isa.addi r5, r5, 16
// STREAMED-NEXT: isa.addi r2, r1, 0
// STREAMED-NEXT: isa.ld [r0+0x400], r2, 256, 768, 0, 0, t0
// STREAMED-NEXT: isa.wait t1
// STREAMED-NEXT: isa.mv.col [r0+0x180], [r0+0x500], [r5+0x0], 1, 2, 1
// STREAMED-NEXT: isa.addi r5, r5, 16
// STREAMED-NEXT: isa.reduce.col [r0+0x180], 16, 0
// A v: each chunk gives rows of its own.
// STREAMED: isa.scale [r8+0xc0]
// STREAMED-NEXT: isa.li r5, 0
// STREAMED-NEXT: isa.addi r2, r1, 256
// STREAMED-NEXT: isa.loop 1, @pass2
// STREAMED-NEXT: isa.ld [r0+0x500], r2, 256, 768, 0, 0, t1
// STREAMED-NEXT: isa.wait t0
// STREAMED-NEXT: isa.mv.row [r5+0x120], [r0+0x400], [r8+0xc0], 1, 2, 0
// STREAMED-NEXT: isa.addi r5, r5, 32
// STREAMED-NEXT: isa.addi r2, r2, 256
// STREAMED-NEXT: isa.ld [r0+0x400], r2, 256, 768, 0, 0, t0
// STREAMED-NEXT: isa.wait t1
// STREAMED-NEXT: isa.mv.row [r5+0x120], [r0+0x500], [r8+0xc0], 1, 2, 0
// STREAMED-NEXT: isa.addi r5, r5, 32
// STREAMED-NEXT: isa.addi r2, r2, 256
// STREAMED-NEXT: isa.label @pass2
// STREAMED-NEXT: isa.ld [r0+0x500], r2, 256, 768, 0, 0, t1
// STREAMED-NEXT: isa.wait t0
// STREAMED-NEXT: isa.mv.row [r5+0x120], [r0+0x400], [r8+0xc0], 1, 2, 0
// STREAMED-NEXT: isa.addi r5, r5, 32
// STREAMED-NEXT: isa.addi r2, r1, 0
// STREAMED-NEXT: isa.ld [r0+0x400], r2, 256, 768, 0, 0, t0
// STREAMED-NEXT: isa.wait t1
// STREAMED-NEXT: isa.mv.row [r5+0x120], [r0+0x500], [r8+0xc0], 1, 2, 0
// STREAMED-NEXT: isa.addi r5, r5, 32
// STREAMED-NEXT: isa.reduce.row [r0+0x120], 32, 0

// Two chunks need no loop.
// TWO: isa.loop 3, @done
// TWO-NOT: isa.loop
// TWO: isa.mv.col [r0+0x180], [r0+0x600], [r5+0x0], 2, 2, 1

// UNSCHEDULED: {{.*}}.mlir:10: error: kernel @k is not scheduled; run cluster-map and cluster-schedule

// LOC: isa.ld {{.*}} loc("set up"("llama.py":10:1))
// LOC: isa.mv.col {{.*}} loc("z = A^T u"("llama.py":20:1))
// LOC: isa.reduce.col {{.*}} loc("z = A^T u"("llama.py":21:1))
