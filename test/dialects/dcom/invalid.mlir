// RUN: %dcomc opt %s --split-input-file --verify-diagnostics | filecheck %s

// CHECK: error: expected a shape of three positive dimensions: prompts x tokens x channels
func.func private @f(!dcom.factored<16x64, rank 4, f32>)

// -----

// CHECK: error: expected a shape of three positive dimensions: prompts x tokens x channels
func.func private @f(!dcom.outliers<0x16x64, capacity 3, f32>)

// -----

// CHECK: error: rank 17 is not between 1 and the 16 rows of a prompt
func.func private @f(!dcom.factored<2x16x64, rank 17, f32>)

// -----

// CHECK: error: rank 0 is not between 1 and the 16 rows of a prompt
func.func private @f(!dcom.factored<2x16x64, rank 0, f32>)

// -----

// CHECK: error: block 17 is not between 1 and the 16 rows of a prompt
func.func private @f(!dcom.factored<2x16x64, block 17, rank 4, f32>)

// -----

// CHECK: error: rank 5 is not between 1 and the 4 rows of a block
func.func private @f(!dcom.factored<2x16x64, block 4, rank 5, f32>)

// -----

// CHECK: error: iterations 6 is not between the rank 3 and min(T, H) = 5
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, block 5, rank 3, f32>
  func.return
}

// -----

// CHECK: error: result type !dcom.factored<2x16x24, rank 4, f32> is not !dcom.factored<2x16x24, block 5, rank 4, f32>
func.func @f(%x: !dcom.factored<2x16x64, block 5, rank 4, f32>, %w: tensor<64x24xf32>) {
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, block 5, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

// CHECK: error: capacity 65 is not between 1 and the 64 channels
func.func private @f(!dcom.outliers<2x16x64, capacity 65, f32>)

// -----

// CHECK: error: expected the element type f16 or f32
func.func private @f(!dcom.factored<2x16x64, rank 4, f64>)

// -----

// CHECK: error: layer -1 is negative
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = -1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: unknown site 'attention', expected one of qkv, o, gate_up, down
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "attention", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: expected a tensor of rows x channels, got 3 dimensions
func.func @f(%x: tensor<2x16x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<2x16x64xf32> -> tensor<2x16x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: tensor has 48 rows, but 2 prompts of 16 rows are needed
func.func @f(%x: tensor<48x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<48x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: tensor has 60 channels, but the dcom.factored type has 64
func.func @f(%x: tensor<32x60xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x60xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: tensor holds f16, but the dcom.factored type f32
func.func @f(%x: !dcom.factored<2x16x24, rank 4, f32>) {
  %y = dcom.reconstruct %x : !dcom.factored<2x16x24, rank 4, f32> -> tensor<32x24xf16>
  func.return
}

// -----

// CHECK: error: the dense result has not the type of the input
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x60xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: capacity 2 differs from 3 in the type
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: threshold and min_count come together or not at all
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = 1.0 : f32} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: threshold -1.0 is not zero or more
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = -1.0 : f32, min_count = 1 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: min_count 17 is not between 1 and the 16 rows of a prompt
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = 1.0 : f32, min_count = 17 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: iterations 3 is not between the rank 4 and min(T, H) = 16
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 3 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: iterations 17 is not between the rank 4 and min(T, H) = 16
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 17 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: reorthogonalisation 9 is not between 0 and 8
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 9 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: seed -1 is negative
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = -1 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: weight is not a matrix of 64 rows, one for each channel
func.func @f(%x: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<60x24xf32>) {
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<60x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

// CHECK: error: weight holds f16, but the activation f32
func.func @f(%x: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf16>) {
  %y = dcom.outlier_matmul %x, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf16> -> tensor<32x24xf32>
  func.return
}

// -----

// CHECK: error: result type !dcom.factored<2x16x24, rank 5, f32> is not !dcom.factored<2x16x24, rank 4, f32>
func.func @f(%x: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<64x24xf32>) {
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 5, f32>
  func.return
}

// -----

// CHECK: error: result type tensor<32x25xf32> is not tensor<32x24xf32>
func.func @f(%x: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  %y = dcom.outlier_matmul %x, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x25xf32>
  func.return
}

// -----

// CHECK: error: capacity 17 is not between 1 and the 16 rows of a prompt
func.func private @f(!dcom.tokens<2x16x64, capacity 17, f32>)

// -----

// CHECK: error: tensor has 48 rows, but 2 prompts of 16 rows are needed
func.func @f(%x: tensor<48x64xf32>) {
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<48x64xf32> -> tensor<48x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: the dense result has not the type of the input
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x60xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: capacity 2 differs from 3 in the type
func.func @f(%x: tensor<32x64xf32>) {
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: !dcom.tokens<2x16x48, capacity 4, f32> selects other numbers of rows than !dcom.tokens<2x16x64, capacity 3, f32>
func.func @f(%x: tensor<32x64xf32>, %other: !dcom.tokens<2x16x48, capacity 4, f32>) {
  %dense, %tokens = dcom.token_split %x like %other : !dcom.tokens<2x16x48, capacity 4, f32> {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

// CHECK: error: weight is not a matrix of 64 rows, one for each channel
func.func @f(%x: !dcom.tokens<2x16x64, capacity 3, f32>, %w: tensor<60x24xf32>) {
  %y = dcom.token_matmul %x, %w : !dcom.tokens<2x16x64, capacity 3, f32>, tensor<60x24xf32> -> tensor<32x24xf32>
  func.return
}

// -----

// CHECK: error: result type tensor<31x24xf32> is not tensor<32x24xf32>
func.func @f(%x: !dcom.tokens<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  %y = dcom.token_matmul %x, %w : !dcom.tokens<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<31x24xf32>
  func.return
}

// -----

// CHECK: error: unknown site 'mlp', expected one of qkv, o, gate_up, down
func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, rank 4, f32>) {
  %g = dcom.project %x on %f {layer = 1 : i64, site = "mlp"} : tensor<32x48xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x48, rank 4, f32>
  func.return
}

// -----

// CHECK: error: tensor has 48 channels, but the dcom.factored type has 64
func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, rank 4, f32>) {
  %g = dcom.project %x on %f {layer = 1 : i64, site = "o"} : tensor<32x48xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: result type !dcom.factored<2x16x48, rank 4, f32> is not !dcom.factored<2x16x48, block 8, rank 4, f32>
func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, block 8, rank 4, f32>) {
  %g = dcom.project %x on %f {layer = 1 : i64, site = "o"} : tensor<32x48xf32>, !dcom.factored<2x16x64, block 8, rank 4, f32> -> !dcom.factored<2x16x48, rank 4, f32>
  func.return
}

// -----

// CHECK: error: energy 1.5 is not above 0 and at most 1
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, energy = 1.5 : f32} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: unknown axis 'columns', expected rows or channels
func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<64xf32>) {
  %g = dcom.scale %f by %s {axis = "columns"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: scales are tensor<16xf32>, but the rows need tensor<32xf32>
func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<16xf32>) {
  %g = dcom.scale %f by %s {axis = "rows"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<16xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

// CHECK: error: result type !dcom.factored<2x16x64, rank 5, f32> is not !dcom.factored<2x16x64, rank 4, f32>
func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<64xf32>) {
  %g = dcom.scale %f by %s {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 5, f32>
  func.return
}

// -----

// CHECK: error: expected one rank, or two positive ones with an x between
func.func private @f(!dcom.factored<2x16x64, rank 4x0, f32>)

// -----

// CHECK: error: expected a shape of two positive dimensions: rows x columns
func.func private @f(!dcom.weight<64, rank 4x4, f32>)

// -----

// CHECK: error: expected two ranks, such as rank 8x8
func.func private @f(!dcom.weight<64x24, rank 4, f32>)

// -----

// CHECK: error: rank 25 is not between 1 and the 24 columns of the weight
func.func private @f(!dcom.weight<64x24, rank 4x25, f32>)

// -----

// CHECK: error: a decomposition gives each block a V of its own, of rank R
func.func @f(%x: tensor<32x64xf32>) {
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 3x3, f32>
  func.return
}

// -----

// CHECK: error: unknown method 'pca', expected one of svd, whitened, tucker2
func.func @f(%u: tensor<64x8xf32>, %core: tensor<8x8xf32>, %v: tensor<8x24xf32>) {
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "o", method = "pca"} : tensor<64x8xf32>, tensor<8x8xf32>, tensor<8x24xf32> -> !dcom.weight<64x24, rank 8x8, f32>
  func.return
}

// -----

// CHECK: error: v is tensor<24x8xf32>, but !dcom.weight<64x24, rank 8x8, f32> needs tensor<8x24xf32>
func.func @f(%u: tensor<64x8xf32>, %core: tensor<8x8xf32>, %v: tensor<24x8xf32>) {
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "o", method = "svd"} : tensor<64x8xf32>, tensor<8x8xf32>, tensor<24x8xf32> -> !dcom.weight<64x24, rank 8x8, f32>
  func.return
}

// -----

// CHECK: error: weight is not a matrix of 64 rows, one for each channel
func.func @f(%x: tensor<32x64xf32>, %w: !dcom.weight<48x24, rank 8x8, f32>) {
  %y = dcom.weight_matmul %x, %w : tensor<32x64xf32>, !dcom.weight<48x24, rank 8x8, f32> -> tensor<32x24xf32>
  func.return
}

// -----

// CHECK: error: result type !dcom.factored<2x16x24, rank 4, f32> is not !dcom.factored<2x16x24, rank 4x8, f32>
func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %w: !dcom.weight<64x24, rank 8x8, f32>) {
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x64, rank 4, f32>, !dcom.weight<64x24, rank 8x8, f32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}
