// RUN: %dcomc opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{expected 2 positive dimensions}}
func.func private @f(!cluster.matrix<40>)

// -----

// expected-error @+1 {{expected 2 positive dimensions}}
func.func private @f(!cluster.matrix<0x24>)

// -----

// expected-error @+1 {{expected 1 positive dimension}}
func.func private @f(!cluster.vector<4x40, rows>)

// -----

// expected-error @+1 {{expected 2 positive dimensions}}
func.func private @f(!cluster.basis<40, rows>)

// -----

// expected-error @+1 {{expected 1 positive dimension}}
func.func private @f(!cluster.cells<0>)

// -----

// expected-error @+1 {{the axis is 'rows' or 'cols', not 'diagonal'}}
func.func private @f(!cluster.vector<40, diagonal>)

// -----

// expected-error @+1 {{the axis is 'rows' or 'cols', not 'row'}}
func.func private @f(!cluster.basis<3x24, row>)

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  // expected-error @+1 {{the start vector lies along 'rows'}}
  cluster.load_start %v : !cluster.basis<3x24, cols>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  // expected-error @+1 {{the body takes the number of the turn, an index}}
  cluster.for 3 : i64 {
    %t = cluster.constant 0.5
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  // expected-error @+1 {{the body takes the number of the turn, an index}}
  cluster.for 3 : i64 {
  ^bb0(%j: f32):
    %t = cluster.constant 0.5
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %z = cluster.alloc : !cluster.vector<24, cols>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{expected a basis along 'cols' and a result along 'rows'}}
    cluster.matvec %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<4x40, rows>, !cluster.vector<24, cols>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{expected a basis along 'rows' and a result along 'cols'}}
    cluster.matvec_transposed %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x24, cols>, !cluster.vector<40, rows>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %v = cluster.alloc : !cluster.basis<3x25, cols>
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{the lengths of basis and result do not fit the matrix}}
    cluster.matvec %a, %v[%j] into %y : !cluster.matrix<40x24>, !cluster.basis<3x25, cols>, !cluster.vector<40, rows>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<40x24>
  %u = cluster.alloc : !cluster.basis<3x40, rows>
  %z = cluster.alloc : !cluster.vector<40, cols>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{the lengths of basis and result do not fit the matrix}}
    cluster.matvec_transposed %a, %u[%j] into %z : !cluster.matrix<40x24>, !cluster.basis<3x40, rows>, !cluster.vector<40, cols>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{across 'rows' or 'cols', not 'row'}}
  cluster.all_reduce %y across "row" : !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{a vector is reduced whole}}
    cluster.all_reduce %y first %j across "cols" : !cluster.vector<40, rows>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %dots = cluster.alloc : !cluster.cells<3>
  // expected-error @+1 {{a shift adds to a count, and there is none}}
  cluster.all_reduce %dots shift 1 : i64 across "rows" : !cluster.cells<3>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %y = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{a vector along 'rows' has no partial sums across them}}
  cluster.all_reduce %y across "rows" : !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %z = cluster.alloc : !cluster.vector<40, cols>
  %c = cluster.alloc : !cluster.cells<3>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{basis and vector differ in length or axis}}
    cluster.dots %u, %z into %c first %j : !cluster.basis<4x40, rows>, !cluster.vector<40, cols>, !cluster.cells<3>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %y = cluster.alloc : !cluster.vector<41, rows>
  %c = cluster.alloc : !cluster.cells<3>
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{basis and vector differ in length or axis}}
    cluster.subtract %u, %c from %y first %j : !cluster.basis<4x40, rows>, !cluster.cells<3>, !cluster.vector<41, rows>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  %y = cluster.alloc : !cluster.vector<39, rows>
  %t = cluster.constant 0.5
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{basis and vector differ in length or axis}}
    cluster.scale %y by %t into %u[%j] : !cluster.vector<39, rows>, !cluster.basis<4x40, rows>
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %c = cluster.alloc : !cluster.cells<3>
  // expected-error @+1 {{no output 'gamma'; known: u, v, alpha, beta}}
  cluster.output %c as "gamma" : !cluster.cells<3>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %v = cluster.alloc : !cluster.basis<1x40, rows, 1 of 16>
  %x = cluster.alloc : !cluster.vector<40, rows>
  %c = cluster.alloc : !cluster.cells<1>
  // expected-error @+1 {{basis and vector differ in length, axis or parts}}
  cluster.dot %v, %x into %c : !cluster.basis<1x40, rows, 1 of 16>, !cluster.vector<40, rows>, !cluster.cells<1>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %v = cluster.alloc : !cluster.basis<1x40, rows, 1 of 16>
  %x = cluster.alloc : !cluster.vector<40, rows>
  %c = cluster.alloc : !cluster.cells<1>
  // expected-error @+1 {{basis and vector differ in length, axis or parts}}
  cluster.project_out %v, %c from %x : !cluster.basis<1x40, rows, 1 of 16>, !cluster.cells<1>, !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %v = cluster.alloc : !cluster.basis<1x40, rows, 1 of 16>
  %x = cluster.alloc : !cluster.vector<40, rows>
  %c = cluster.alloc : !cluster.cells<1>
  // expected-error @+1 {{basis and vector differ in length, axis or parts}}
  cluster.multiply %v, %c into %x : !cluster.basis<1x40, rows, 1 of 16>, !cluster.cells<1>, !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
  // expected-error @+1 {{parts are taken from a whole slice}}
  cluster.part %x into %x : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{what is put together is one part in each cluster}}
  cluster.gather %x into %x : !cluster.vector<40, rows>, !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
  // expected-error @+1 {{the room is not in the banks}}
  cluster.read %x into %x : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows, 1 of 16>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.bank_room : !cluster.vector<40, rows, 1 of 16>
  %y = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{room and data differ in parts}}
  cluster.write %y into %x : !cluster.vector<40, rows>, !cluster.vector<40, rows, 1 of 16>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
  %y = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{each cluster gets one part of those that are summed}}
  cluster.replica_reduce %x into %y : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  %x = cluster.alloc : !cluster.vector<40, rows, 1 of 16>
  %y = cluster.alloc : !cluster.vector<40, rows>
  // expected-error @+1 {{the vectors differ in length, axis or parts}}
  cluster.minus %x, %y : !cluster.vector<40, rows, 1 of 16>, !cluster.vector<40, rows>
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  cluster.for 3 : i64 {
  ^bb0(%j: index):
    // expected-error @+1 {{the body takes the number of a vector, an index}}
    cluster.each first %j {
    ^bb1:
      %t = cluster.constant 0.5
    }
  }
}

// -----

cluster.kernel @k attributes {seed = 0 : i64} {
  // expected-error @+1 {{a cluster holds 1 to all parts of its slice}}
  %x = cluster.alloc : !cluster.vector<40, rows, 17 of 16>
}

// -----

// expected-error @+1 {{a cluster holds 1 to all parts of its slice}}
func.func private @f(!cluster.vector<40, rows, 0 of 16>)
