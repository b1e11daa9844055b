// RUN: %dcomc opt %s --split-input-file --verify-diagnostics | filecheck %s

// CHECK: error: expected 2 positive dimensions
func.func private @f(!cluster.matrix<40>)

// -----

// CHECK: error: expected 2 positive dimensions
func.func private @f(!cluster.matrix<0x24>)

// -----

// CHECK: error: expected 1 positive dimension{{$}}
func.func private @f(!cluster.vector<4x40, rows>)

// -----

// CHECK: error: expected 2 positive dimensions
func.func private @f(!cluster.basis<40, rows>)

// -----

// CHECK: error: expected 1 positive dimension{{$}}
func.func private @f(!cluster.cells<0>)

// -----

// CHECK: error: the axis is 'rows' or 'cols', not 'diagonal'
func.func private @f(!cluster.vector<40, diagonal>)

// -----

// CHECK: error: the axis is 'rows' or 'cols', not 'row'
func.func private @f(!cluster.basis<3x24, row>)

// -----

// CHECK: error: the start vector lies along 'rows'
cluster.kernel @k attributes {seed = 0 : i64} {
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  cluster.load_start %v : !cluster.basis<3x24, cols>
}

// -----

// CHECK: error: the body takes the number of the turn, an index
cluster.kernel @k attributes {seed = 0 : i64} {
  cluster.for 3 : i64 {
    %t = cluster.constant 0.5
  }
}

// -----

// CHECK: error: the body takes the number of the turn, an index
cluster.kernel @k attributes {seed = 0 : i64} {
  cluster.for 3 : i64 {
  ^bb0(%j: f32):
    %t = cluster.constant 0.5
  }
}

// -----

// CHECK: error: expected a basis along 'cols' and a result along 'rows'
cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %z = cluster.alloc : !cluster.vector<24, cols>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.matvec %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
  }
}

// -----

// CHECK: error: expected a basis along 'rows' and a result along 'cols'
cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.matvec_transposed %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x24, cols>, !cluster.vector<40, rows>
  }
}

// -----

// CHECK: error: the lengths of basis and result do not fit the matrix
cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %v = cluster.alloc : !cluster.basis<3x25, cols>
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.matvec %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x25, cols>, !cluster.vector<40, rows>
  }
}

// -----

// CHECK: error: the lengths of basis and result do not fit the matrix
cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %u = cluster.alloc : !cluster.basis<3x40, rows>
  %z = cluster.alloc : !cluster.vector<40, cols>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.matvec_transposed %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<3x40, rows>, !cluster.vector<40, cols>
  }
}

// -----

// CHECK: error: across 'rows' or 'cols', not 'row'
cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.all_reduce %y across "row" : !cluster.vector<40, rows>
}

// -----

// CHECK: error: a vector is reduced whole
cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.all_reduce %y first %j across "cols" : !cluster.vector<40, rows>
  }
}

// -----

// CHECK: error: a vector along 'rows' has no partial sums across them
cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.all_reduce %y across "rows" : !cluster.vector<40, rows>
}

// -----

// CHECK: error: basis and vector differ in length or axis
cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %z = cluster.alloc : !cluster.vector<40, cols>
  %c = cluster.alloc : !cluster.cells<3>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.dots %u, %z into %c first %j : !cluster.basis<4x40, rows>, !cluster.vector<40, cols>, !cluster.cells<3>
  }
}

// -----

// CHECK: error: basis and vector differ in length or axis
cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %y = cluster.alloc : !cluster.vector<41, rows>
  %c = cluster.alloc : !cluster.cells<3>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.subtract %u, %c from %y first %j : !cluster.basis<4x40, rows>, !cluster.cells<3>, !cluster.vector<41, rows>
  }
}

// -----

// CHECK: error: basis and vector differ in length or axis
cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %y = cluster.alloc : !cluster.vector<39, rows>
  %t = cluster.constant 0.5
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    cluster.scale %y by %t into %u[%j] : !cluster.vector<39, rows>, !cluster.basis<4x40, rows>
  }
}

// -----

// CHECK: error: there is no loop to leave
cluster.kernel @k attributes {seed = 0 : i64} {
  %t = cluster.constant 0.5
  cluster.break_unless_greater %t, %t
}

// -----

// CHECK: error: no output 'gamma'; known: u, v, alpha, beta
cluster.kernel @k attributes {seed = 0 : i64} {
  %c = cluster.alloc : !cluster.cells<3>
  cluster.output %c as "gamma" : !cluster.cells<3>
}
