// RUN: %dcomc opt %s | filecheck %s
// RUN: %dcomc opt %s --print-debuginfo | %dcomc opt - | filecheck %s

// Nothing is printed other than it was read.

// CHECK: cluster.kernel @k attributes {seed = 7 : i64} {
cluster.kernel @k attributes {seed = 7 : i64} {
  // CHECK-NEXT: %a = cluster.matrix : !cluster.matrix<40x24>
  %a = cluster.matrix : !cluster.matrix<40x24>
  // CHECK-NEXT: %u = cluster.alloc : !cluster.basis<4x40, rows>
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  // CHECK-NEXT: %v = cluster.alloc : !cluster.basis<3x24, cols>
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  // CHECK-NEXT: %y = cluster.alloc : !cluster.vector<40, rows>
  %y = cluster.alloc : !cluster.vector<40, rows>
  // CHECK-NEXT: %z = cluster.alloc : !cluster.vector<24, cols>
  %z = cluster.alloc : !cluster.vector<24, cols>
  // CHECK-NEXT: %dots = cluster.alloc : !cluster.cells<3>
  %dots = cluster.alloc : !cluster.cells<3>
  // CHECK-NEXT: %norm = cluster.alloc : !cluster.cells<1>
  %norm = cluster.alloc : !cluster.cells<1>
  // CHECK-NEXT: cluster.zero %u : !cluster.basis<4x40, rows>
  cluster.zero %u : !cluster.basis<4x40, rows>
  // CHECK-NEXT: cluster.zero %y : !cluster.vector<40, rows>
  cluster.zero %y : !cluster.vector<40, rows>
  // CHECK-NEXT: cluster.zero %dots : !cluster.cells<3>
  cluster.zero %dots : !cluster.cells<3>
  // CHECK-NEXT: cluster.load_start %u : !cluster.basis<4x40, rows>
  cluster.load_start %u : !cluster.basis<4x40, rows>
  // CHECK-NEXT: %t = cluster.constant 5.000000e-01
  %t = cluster.constant 0.5
  // CHECK-NEXT: cluster.for 3 : i64 {
  cluster.for 3 : i64 {
  // CHECK-NEXT: ^bb0(%j: index):
  ^bb0(%j: index):
    // CHECK-NEXT: cluster.matvec_transposed %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
    cluster.matvec_transposed %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
    // CHECK-NEXT: cluster.matvec_transposed %a, %u[%j shift 1 : i64] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
    cluster.matvec_transposed %a, %u[%j shift 1 : i64] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
    // CHECK-NEXT: cluster.matvec %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x24, cols>, !cluster.vector<40, rows>
    cluster.matvec %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x24, cols>, !cluster.vector<40, rows>
    // CHECK-NEXT: cluster.all_reduce %y across "cols" : !cluster.vector<40, rows>
    cluster.all_reduce %y across "cols" : !cluster.vector<40, rows>
    // CHECK-NEXT: cluster.all_reduce %dots first %j across "rows" : !cluster.cells<3>
    cluster.all_reduce %dots first %j across "rows" : !cluster.cells<3>
    // CHECK-NEXT: cluster.all_reduce %norm across "rows" : !cluster.cells<1>
    cluster.all_reduce %norm across "rows" : !cluster.cells<1>
    // CHECK-NEXT: cluster.dots %v, %z into %dots first %j : !cluster.basis<3x24, cols>, !cluster.vector<24, cols>, !cluster.cells<3>
    cluster.dots %v, %z into %dots first %j : !cluster.basis<3x24, cols>, !cluster.vector<24, cols>, !cluster.cells<3>
    // CHECK-NEXT: cluster.dots %u, %y into %dots first %j shift 1 : i64 : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<3>
    cluster.dots %u, %y into %dots first %j shift 1 : i64 : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<3>
    // CHECK-NEXT: cluster.subtract %v, %dots from %z first %j : !cluster.basis<3x24, cols>, !cluster.cells<3>, !cluster.vector<24, cols>
    cluster.subtract %v, %dots from %z first %j : !cluster.basis<3x24, cols>, !cluster.cells<3>, !cluster.vector<24, cols>
    // CHECK-NEXT: cluster.subtract %u, %dots from %y first %j shift 1 : i64 : !cluster.basis<4x40, rows>, !cluster.cells<3>, !cluster.vector<40, rows>
    cluster.subtract %u, %dots from %y first %j shift 1 : i64 : !cluster.basis<4x40, rows>, !cluster.cells<3>, !cluster.vector<40, rows>
    // CHECK-NEXT: cluster.norm2 %z into %norm : !cluster.vector<24, cols>, !cluster.cells<1>
    cluster.norm2 %z into %norm : !cluster.vector<24, cols>, !cluster.cells<1>
    // CHECK-NEXT: %n = cluster.load %norm : !cluster.cells<1>
    %n = cluster.load %norm : !cluster.cells<1>
    // CHECK-NEXT: %p = cluster.mul %n, %t
    %p = cluster.mul %n, %t
    // CHECK-NEXT: %m = cluster.max %n, %p
    %m = cluster.max %n, %p
    // CHECK-NEXT: %r = cluster.rsqrt %m
    %r = cluster.rsqrt %m
    // CHECK-NEXT: %w = cluster.where_greater %n, %m, %r
    %w = cluster.where_greater %n, %m, %r
    // CHECK-NEXT: cluster.norm2 %z into %norm pieces 1 : i64 : !cluster.vector<24, cols>, !cluster.cells<1>
    cluster.norm2 %z into %norm pieces 1 : i64 : !cluster.vector<24, cols>, !cluster.cells<1>
    // CHECK-NEXT: cluster.scale %z by %w into %v[%j] pieces 2 : i64 : !cluster.vector<24, cols>, !cluster.basis<3x24, cols>
    cluster.scale %z by %w into %v[%j] pieces 2 : i64 : !cluster.vector<24, cols>, !cluster.basis<3x24, cols>
    // CHECK-NEXT: cluster.store %m, %norm : !cluster.cells<1>
    cluster.store %m, %norm : !cluster.cells<1>
    // CHECK-NEXT: cluster.store %r, %dots[%j] : !cluster.cells<3>
    cluster.store %r, %dots[%j] : !cluster.cells<3>
    // CHECK-NEXT: cluster.scale %z by %r into %v[%j] : !cluster.vector<24, cols>, !cluster.basis<3x24, cols>
    cluster.scale %z by %r into %v[%j] : !cluster.vector<24, cols>, !cluster.basis<3x24, cols>
    // CHECK-NEXT: cluster.scale %y by %r into %u[%j shift 1 : i64] : !cluster.vector<40, rows>, !cluster.basis<4x40, rows>
    cluster.scale %y by %r into %u[%j shift 1 : i64] : !cluster.vector<40, rows>, !cluster.basis<4x40, rows>
  // CHECK-NEXT: }
  }
  // CHECK-NEXT: cluster.output %u as "u" : !cluster.basis<4x40, rows>
  cluster.output %u as "u" : !cluster.basis<4x40, rows>
  // CHECK-NEXT: cluster.output %dots as "beta" : !cluster.cells<3>
  cluster.output %dots as "beta" : !cluster.cells<3>
// CHECK-NEXT: }
}

// CHECK: cluster.kernel @scheduled attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 8 : i64, slice_rows = 16 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, banks = {a_offset = 0 : i64}} {
cluster.kernel @scheduled attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 8 : i64, slice_rows = 16 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, banks = {a_offset = 0 : i64}} {
  // CHECK-NEXT: cluster.matrix {chunks = 2 : i64, offset = 64 : i64} : !cluster.matrix<40x24>
  %a = cluster.matrix {chunks = 2 : i64, offset = 64 : i64} : !cluster.matrix<40x24>
  // CHECK-NEXT: cluster.alloc {offset = 12 : i64} : !cluster.cells<3>
  %dots = cluster.alloc {offset = 12 : i64} : !cluster.cells<3>
}

// One vector at a time, and vectors in parts.
// CHECK: cluster.kernel @partial attributes {seed = 0 : i64} {
cluster.kernel @partial attributes {seed = 0 : i64} {
// CHECK-NEXT: %u = cluster.alloc : !cluster.basis<4x40, rows>
  %u = cluster.alloc : !cluster.basis<4x40, rows>
// CHECK-NEXT: %y = cluster.alloc : !cluster.vector<40, rows>
  %y = cluster.alloc : !cluster.vector<40, rows>
// CHECK-NEXT: %u_part = cluster.alloc : !cluster.basis<1x40, rows, 1 of 16>
  %u_part = cluster.alloc : !cluster.basis<1x40, rows, 1 of 16>
// CHECK-NEXT: %y_part = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
  %y_part = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: %replica = cluster.alloc {offset = 64 : i64} : !cluster.basis<1x40, rows, 8 of 16>
  %replica = cluster.alloc {offset = 64 : i64} : !cluster.basis<1x40, rows, 8 of 16>
// CHECK-NEXT: %product = cluster.alloc : !cluster.vector<40, rows, 8 of 16>
  %product = cluster.alloc : !cluster.vector<40, rows, 8 of 16>
// CHECK-NEXT: %u_bank = cluster.bank_room : !cluster.basis<4x40, rows, 1 of 16>
  %u_bank = cluster.bank_room : !cluster.basis<4x40, rows, 1 of 16>
// CHECK-NEXT: %y_bank = cluster.bank_room {offset = 128 : i64} : !cluster.vector<40, rows, 1 of 16>
  %y_bank = cluster.bank_room {offset = 128 : i64} : !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: %c = cluster.alloc : !cluster.cells<1>
  %c = cluster.alloc : !cluster.cells<1>
// CHECK-NEXT: cluster.part %u into %u_part : !cluster.basis<4x40, rows>, !cluster.basis<1x40, rows, 1 of 16>
  cluster.part %u into %u_part : !cluster.basis<4x40, rows>, !cluster.basis<1x40, rows, 1 of 16>
// CHECK-NEXT: cluster.for 3 : i64 {
  cluster.for 3 : i64 {
// CHECK-NEXT: ^bb0(%j: index):
  ^bb0(%j: index):
// CHECK-NEXT: cluster.part %u[%j shift 1 : i64] into %u_part : !cluster.basis<4x40, rows>, !cluster.basis<1x40, rows, 1 of 16>
    cluster.part %u[%j shift 1 : i64] into %u_part : !cluster.basis<4x40, rows>, !cluster.basis<1x40, rows, 1 of 16>
// CHECK-NEXT: cluster.write %u_part into %u_bank[%j shift 1 : i64] : !cluster.basis<1x40, rows, 1 of 16>, !cluster.basis<4x40, rows, 1 of 16>
    cluster.write %u_part into %u_bank[%j shift 1 : i64] : !cluster.basis<1x40, rows, 1 of 16>, !cluster.basis<4x40, rows, 1 of 16>
// CHECK-NEXT: cluster.part %y into %y_part : !cluster.vector<40, rows>, !cluster.vector<40, rows, 1 of 16>
    cluster.part %y into %y_part : !cluster.vector<40, rows>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: cluster.write %y_part into %y_bank : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
    cluster.write %y_part into %y_bank : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: cluster.each first %j {
    cluster.each first %j {
// CHECK-NEXT: ^bb0(%i: index):
    ^bb0(%i: index):
// CHECK-NEXT: cluster.dot %u[%i], %y into %c pieces 1 : i64 : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<1>
      cluster.dot %u[%i], %y into %c pieces 1 : i64 : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<1>
// CHECK-NEXT: cluster.all_reduce %c across "rows" : !cluster.cells<1>
      cluster.all_reduce %c across "rows" : !cluster.cells<1>
// CHECK-NEXT: cluster.project_out %u[%i], %c from %y pieces 2 : i64 : !cluster.basis<4x40, rows>, !cluster.cells<1>, !cluster.vector<40, rows>
      cluster.project_out %u[%i], %c from %y pieces 2 : i64 : !cluster.basis<4x40, rows>, !cluster.cells<1>, !cluster.vector<40, rows>
// CHECK-NEXT: }
    }
// CHECK-NEXT: cluster.each first %j shift 1 : i64 {
    cluster.each first %j shift 1 : i64 {
// CHECK-NEXT: ^bb0(%i_1: index):
    ^bb0(%i_1: index):
// CHECK-NEXT: cluster.read %u_bank[%i_1] into %u_part : !cluster.basis<4x40, rows, 1 of 16>, !cluster.basis<1x40, rows, 1 of 16>
      cluster.read %u_bank[%i_1] into %u_part : !cluster.basis<4x40, rows, 1 of 16>, !cluster.basis<1x40, rows, 1 of 16>
// CHECK-NEXT: cluster.read %y_bank into %y_part : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
      cluster.read %y_bank into %y_part : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: cluster.dot %u_part, %y_part into %c : !cluster.basis<1x40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>, !cluster.cells<1>
      cluster.dot %u_part, %y_part into %c : !cluster.basis<1x40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>, !cluster.cells<1>
// CHECK-NEXT: cluster.group_reduce %c over 4 : i64 by 8 : i64 : !cluster.cells<1>
      cluster.group_reduce %c over 4 : i64 by 8 : i64 : !cluster.cells<1>
// CHECK-NEXT: cluster.exchange %c of 4 : i64 by 8 : i64 into %c over 1 : i64 by 8 : i64 : !cluster.cells<1>, !cluster.cells<1>
      cluster.exchange %c of 4 : i64 by 8 : i64 into %c over 1 : i64 by 8 : i64 : !cluster.cells<1>, !cluster.cells<1>
// CHECK-NEXT: cluster.gather %u_part into %replica : !cluster.basis<1x40, rows, 1 of 16>, !cluster.basis<1x40, rows, 8 of 16>
      cluster.gather %u_part into %replica : !cluster.basis<1x40, rows, 1 of 16>, !cluster.basis<1x40, rows, 8 of 16>
// CHECK-NEXT: cluster.multiply %replica, %c into %product pieces 2 : i64 : !cluster.basis<1x40, rows, 8 of 16>, !cluster.cells<1>, !cluster.vector<40, rows, 8 of 16>
      cluster.multiply %replica, %c into %product pieces 2 : i64 : !cluster.basis<1x40, rows, 8 of 16>, !cluster.cells<1>, !cluster.vector<40, rows, 8 of 16>
// CHECK-NEXT: cluster.replica_reduce %product into %y_part : !cluster.vector<40, rows, 8 of 16>, !cluster.vector<40, rows, 1 of 16>
      cluster.replica_reduce %product into %y_part : !cluster.vector<40, rows, 8 of 16>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: cluster.minus %y_part, %y_part : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
      cluster.minus %y_part, %y_part : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: cluster.sum %c into %c : !cluster.cells<1>, !cluster.cells<1>
      cluster.sum %c into %c : !cluster.cells<1>, !cluster.cells<1>
// CHECK-NEXT: cluster.project_out %u_part, %c from %y_part : !cluster.basis<1x40, rows, 1 of 16>, !cluster.cells<1>, !cluster.vector<40, rows, 1 of 16>
      cluster.project_out %u_part, %c from %y_part : !cluster.basis<1x40, rows, 1 of 16>, !cluster.cells<1>, !cluster.vector<40, rows, 1 of 16>
// CHECK-NEXT: }
    }
// CHECK-NEXT: cluster.gather %y_part into %y : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows>
    cluster.gather %y_part into %y : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows>
// CHECK-NEXT: }
  }
// CHECK-NEXT: }
}
