// RUN: %dcomc opt %s --split-input-file --verify-diagnostics

func.func @f(%b: tensor<16xf32>) {
  // expected-error @+1 {{bias is tensor<16xf32>, but !dcom.factored<2x16x24, rank 1, f32> has another number or type of channels}}
  %g = dcom.bias_track %b : tensor<16xf32> -> !dcom.factored<2x16x24, rank 1, f32>
  func.return
}

// -----

func.func @f(%b: tensor<24xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 2, f32> is not !dcom.factored<2x16x24, rank 1, f32>}}
  %g = dcom.bias_track %b : tensor<24xf32> -> !dcom.factored<2x16x24, rank 2, f32>
  func.return
}

// -----

func.func @f(%o: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 4, f32> is not !dcom.factored<2x16x24, rank 3, f32>}}
  %g = dcom.exact_track %o, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %h: !dcom.factored<2x16x24, rank 4x5, f32>) {
  // expected-error @+1 {{!dcom.factored<2x16x24, rank 4x5, f32> has the V of a weight, not one of each block's own}}
  %g = dcom.concat %f, %h : !dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 4x5, f32> -> !dcom.factored<2x16x24, rank 8, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %h: !dcom.factored<2x16x24, block 8, rank 3, f32>) {
  // expected-error @+1 {{!dcom.factored<2x16x24, rank 4, f32> and !dcom.factored<2x16x24, block 8, rank 3, f32> differ in more than the rank}}
  %g = dcom.concat %f, %h : !dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, block 8, rank 3, f32> -> !dcom.factored<2x16x24, rank 7, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{24 channels are not 5 heads of equal size}}
  %g = dcom.split_heads %f {groups = 5 : i64, shared = 1 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<10x16x4, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{a group is shared by 0 heads, not by one or more}}
  %g = dcom.split_heads %f {groups = 3 : i64, shared = 0 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<6x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %p: tensor<3x9x16xf32>) {
  // expected-error @+1 {{left is tensor<3x9x16xf32>, not 2 matrices of 16 columns}}
  %g = dcom.left_matmul %p, %f : tensor<3x9x16xf32>, !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<2x9x24, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, block 8, rank 4x3, f32>, %p: tensor<2x9x16xf32>) {
  // expected-error @+1 {{prompts in blocks of 8 have the V of a weight}}
  %g = dcom.left_matmul %p, %f : tensor<2x9x16xf32>, !dcom.factored<2x16x24, block 8, rank 4x3, f32> -> !dcom.factored<2x9x24, rank 8x3, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, block 8, rank 4, f32>, %p: tensor<2x9x16xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x9x24, rank 4, f32> is not !dcom.factored<2x9x24, rank 8, f32>}}
  %g = dcom.left_matmul %p, %f : tensor<2x9x16xf32>, !dcom.factored<2x16x24, block 8, rank 4, f32> -> !dcom.factored<2x9x24, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %w: tensor<96x8xf32>) {
  // expected-error @+1 {{2 prompts are not 4 heads of equal size}}
  %g = dcom.head_matmul %f, %w {heads = 4 : i64} : !dcom.factored<2x16x24, rank 4, f32>, tensor<96x8xf32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %w: tensor<24x8xf32>) {
  // expected-error @+1 {{weight is not a matrix of 48 rows, one for each channel}}
  %g = dcom.head_matmul %f, %w {heads = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32>, tensor<24x8xf32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, block 8, rank 4, f32>) {
  // expected-error @+1 {{the sum over heads takes prompts of one block}}
  %g = dcom.reconstruct_heads %f {heads = 2 : i64} : !dcom.factored<2x16x24, block 8, rank 4, f32> -> tensor<16x24xf32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{tensor has 32 rows, but 1 prompts of 16 rows are needed}}
  %g = dcom.reconstruct_heads %f {heads = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> tensor<32x24xf32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %h: !dcom.factored<2x16x24, rank 3, f32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 6, f32> is not !dcom.factored<2x16x24, rank 7, f32>}}
  %g = dcom.concat %f, %h : !dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 3, f32> -> !dcom.factored<2x16x24, rank 6, f32>
  func.return
}

// -----

func.func @f(%o: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<60x24xf32>) {
  // expected-error @+1 {{weight is not a matrix of 64 rows, one for each channel}}
  %g = dcom.exact_track %o, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<60x24xf32> -> !dcom.factored<2x16x24, rank 3, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{8 channels from -1 on are not among the 24 of the input}}
  %g = dcom.slice %f {offset = -1 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4x5, f32>) {
  // expected-error @+1 {{!dcom.factored<2x16x24, rank 4x5, f32> has the V of a weight, not one of each block's own}}
  %g = dcom.split_heads %f {groups = 3 : i64, shared = 1 : i64} : !dcom.factored<2x16x24, rank 4x5, f32> -> !dcom.factored<6x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{result type !dcom.factored<6x16x8, rank 4, f32> is not !dcom.factored<12x16x8, rank 4, f32>}}
  %g = dcom.split_heads %f {groups = 3 : i64, shared = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<6x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4x5, f32>, %w: tensor<48x8xf32>) {
  // expected-error @+1 {{!dcom.factored<2x16x24, rank 4x5, f32> has the V of a weight, not one of each block's own}}
  %g = dcom.head_matmul %f, %w {heads = 2 : i64} : !dcom.factored<2x16x24, rank 4x5, f32>, tensor<48x8xf32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>, %w: tensor<48x8xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x9, rank 4, f32> is not !dcom.factored<2x16x8, rank 4, f32>}}
  %g = dcom.head_matmul %f, %w {heads = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32>, tensor<48x8xf32> -> !dcom.factored<2x16x9, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4x5, f32>) {
  // expected-error @+1 {{!dcom.factored<2x16x24, rank 4x5, f32> has the V of a weight, not one of each block's own}}
  %y = dcom.reconstruct_heads %f {heads = 2 : i64} : !dcom.factored<2x16x24, rank 4x5, f32> -> tensor<16x24xf32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{2 prompts are not 3 heads of equal size}}
  %y = dcom.reconstruct_heads %f {heads = 3 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> tensor<16x24xf32>
  func.return
}
