// RUN: %dcomc opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{expected a shape of three positive dimensions: prompts x tokens x channels}}
func.func private @f(!dcom.factored<16x64, rank 4, f32>)

// -----

// expected-error @+1 {{expected a shape of three positive dimensions: prompts x tokens x channels}}
func.func private @f(!dcom.outliers<0x16x64, capacity 3, f32>)

// -----

// expected-error @+1 {{rank 17 is not between 1 and the 16 rows of a prompt}}
func.func private @f(!dcom.factored<2x16x64, rank 17, f32>)

// -----

// expected-error @+1 {{rank 0 is not between 1 and the 16 rows of a prompt}}
func.func private @f(!dcom.factored<2x16x64, rank 0, f32>)

// -----

// expected-error @+1 {{block 17 is not between 1 and the 16 rows of a prompt}}
func.func private @f(!dcom.factored<2x16x64, block 17, rank 4, f32>)

// -----

// expected-error @+1 {{rank 5 is not between 1 and the 4 rows of a block}}
func.func private @f(!dcom.factored<2x16x64, block 4, rank 5, f32>)

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{iterations 6 is not between the rank 3 and min(T, H) = 5}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, block 5, rank 3, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.factored<2x16x64, block 5, rank 4, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 4, f32> is not !dcom.factored<2x16x24, block 5, rank 4, f32>}}
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, block 5, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

// expected-error @+1 {{capacity 65 is not between 1 and the 64 channels}}
func.func private @f(!dcom.outliers<2x16x64, capacity 65, f32>)

// -----

// expected-error @+1 {{expected the element type f16 or f32}}
func.func private @f(!dcom.factored<2x16x64, rank 4, f64>)

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{layer -1 is negative}}
  %dense, %outliers = dcom.outlier_split %x {layer = -1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{unknown site 'attention', expected one of qkv, o, gate_up, down}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "attention", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<2x16x64xf32>) {
  // expected-error @+1 {{expected a tensor of rows x channels, got 3 dimensions}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<2x16x64xf32> -> tensor<2x16x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<48x64xf32>) {
  // expected-error @+1 {{tensor has 48 rows, but 2 prompts of 16 rows are needed}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<48x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x60xf32>) {
  // expected-error @+1 {{tensor has 60 channels, but the dcom.factored type has 64}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x60xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{tensor holds f16, but the dcom.factored type f32}}
  %y = dcom.reconstruct %x : !dcom.factored<2x16x24, rank 4, f32> -> tensor<32x24xf16>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{the dense result has not the type of the input}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x60xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{capacity 2 differs from 3 in the type}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{threshold and min_count come together or not at all}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = 1.0 : f32} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{threshold -1.0 is not zero or more}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = -1.0 : f32, min_count = 1 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{min_count 17 is not between 1 and the 16 rows of a prompt}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = 1.0 : f32, min_count = 17 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{iterations 3 is not between the rank 4 and min(T, H) = 16}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 3 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{iterations 17 is not between the rank 4 and min(T, H) = 16}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 17 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{reorthogonalisation 9 is not between 0 and 8}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 9 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{seed -1 is negative}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = -1 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f_start(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{unknown start 'median', expected one of random, mean}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, start = "median"} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<60x24xf32>) {
  // expected-error @+1 {{weight is not a matrix of 64 rows, one for each channel}}
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<60x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf16>) {
  // expected-error @+1 {{weight holds f16, but the activation f32}}
  %y = dcom.outlier_matmul %x, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf16> -> tensor<32x24xf32>
  func.return
}

// -----

func.func @f(%x: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 5, f32> is not !dcom.factored<2x16x24, rank 4, f32>}}
  %y = dcom.matmul %x, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 5, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{result type tensor<32x25xf32> is not tensor<32x24xf32>}}
  %y = dcom.outlier_matmul %x, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x25xf32>
  func.return
}

// -----

// expected-error @+1 {{capacity 17 is not between 1 and the 16 rows of a prompt}}
func.func private @f(!dcom.tokens<2x16x64, capacity 17, f32>)

// -----

func.func @f(%x: tensor<48x64xf32>) {
  // expected-error @+1 {{tensor has 48 rows, but 2 prompts of 16 rows are needed}}
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<48x64xf32> -> tensor<48x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{the dense result has not the type of the input}}
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x60xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{capacity 2 differs from 3 in the type}}
  %dense, %tokens = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>, %other: !dcom.tokens<2x16x48, capacity 4, f32>) {
  // expected-error @+1 {{!dcom.tokens<2x16x48, capacity 4, f32> selects other numbers of rows than !dcom.tokens<2x16x64, capacity 3, f32>}}
  %dense, %tokens = dcom.token_split %x like %other : !dcom.tokens<2x16x48, capacity 4, f32> {layer = 1 : i64, site = "o", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.tokens<2x16x64, capacity 3, f32>, %w: tensor<60x24xf32>) {
  // expected-error @+1 {{weight is not a matrix of 64 rows, one for each channel}}
  %y = dcom.token_matmul %x, %w : !dcom.tokens<2x16x64, capacity 3, f32>, tensor<60x24xf32> -> tensor<32x24xf32>
  func.return
}

// -----

func.func @f(%x: !dcom.tokens<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{result type tensor<31x24xf32> is not tensor<32x24xf32>}}
  %y = dcom.token_matmul %x, %w : !dcom.tokens<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<31x24xf32>
  func.return
}

// -----

func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, rank 4, f32>) {
  // expected-error @+1 {{unknown site 'mlp', expected one of qkv, o, gate_up, down}}
  %g = dcom.project %x on %f {layer = 1 : i64, site = "mlp"} : tensor<32x48xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x48, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, rank 4, f32>) {
  // expected-error @+1 {{tensor has 48 channels, but the dcom.factored type has 64}}
  %g = dcom.project %x on %f {layer = 1 : i64, site = "o"} : tensor<32x48xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, block 8, rank 4, f32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x48, rank 4, f32> is not !dcom.factored<2x16x48, block 8, rank 4, f32>}}
  %g = dcom.project %x on %f {layer = 1 : i64, site = "o"} : tensor<32x48xf32>, !dcom.factored<2x16x64, block 8, rank 4, f32> -> !dcom.factored<2x16x48, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{energy 1.5 is not above 0 and at most 1}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, energy = 1.5 : f32} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<64xf32>) {
  // expected-error @+1 {{unknown axis 'columns', expected rows or channels}}
  %g = dcom.scale %f by %s {axis = "columns"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<16xf32>) {
  // expected-error @+1 {{scales are tensor<16xf32>, but the rows need tensor<32xf32>}}
  %g = dcom.scale %f by %s {axis = "rows"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<16xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %s: tensor<64xf32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x64, rank 5, f32> is not !dcom.factored<2x16x64, rank 4, f32>}}
  %g = dcom.scale %f by %s {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 5, f32>
  func.return
}

// -----

// expected-error @+1 {{expected one rank, or two positive ones with an x between}}
func.func private @f(!dcom.factored<2x16x64, rank 4x0, f32>)

// -----

// expected-error @+1 {{expected a shape of two positive dimensions: rows x columns}}
func.func private @f(!dcom.weight<64, rank 4x4, f32>)

// -----

// expected-error @+1 {{expected two ranks, such as rank 8x8}}
func.func private @f(!dcom.weight<64x24, rank 4, f32>)

// -----

// expected-error @+1 {{rank 25 is not between 1 and the 24 columns of the weight}}
func.func private @f(!dcom.weight<64x24, rank 4x25, f32>)

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{a decomposition gives each block a V of its own, of rank R}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 3x3, f32>
  func.return
}

// -----

func.func @f(%u: tensor<64x8xf32>, %core: tensor<8x8xf32>, %v: tensor<8x24xf32>) {
  // expected-error @+1 {{unknown method 'pca', expected one of svd, whitened, tucker2}}
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "o", method = "pca"} : tensor<64x8xf32>, tensor<8x8xf32>, tensor<8x24xf32> -> !dcom.weight<64x24, rank 8x8, f32>
  func.return
}

// -----

func.func @f(%u: tensor<64x8xf32>, %core: tensor<8x8xf32>, %v: tensor<24x8xf32>) {
  // expected-error @+1 {{v is tensor<24x8xf32>, but !dcom.weight<64x24, rank 8x8, f32> needs tensor<8x24xf32>}}
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "o", method = "svd"} : tensor<64x8xf32>, tensor<8x8xf32>, tensor<24x8xf32> -> !dcom.weight<64x24, rank 8x8, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>, %w: !dcom.weight<48x24, rank 8x8, f32>) {
  // expected-error @+1 {{weight is not a matrix of 64 rows, one for each channel}}
  %y = dcom.weight_matmul %x, %w : tensor<32x64xf32>, !dcom.weight<48x24, rank 8x8, f32> -> tensor<32x24xf32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x64, rank 4, f32>, %w: !dcom.weight<64x24, rank 8x8, f32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x24, rank 4, f32> is not !dcom.factored<2x16x24, rank 4x8, f32>}}
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x64, rank 4, f32>, !dcom.weight<64x24, rank 8x8, f32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) -> !dcom.factored<2x16x64, rank 4, f32> {
  // expected-error @+1 {{unknown gram_schmidt 'block', expected one of classical, modified}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, gram_schmidt = "block"} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return %factors : !dcom.factored<2x16x64, rank 4, f32>
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{8 channels from 17 on are not among the 24 of the input}}
  %g = dcom.slice %f {offset = 17 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return
}

// -----

func.func @f(%f: !dcom.factored<2x16x24, rank 4, f32>) {
  // expected-error @+1 {{result type !dcom.factored<2x16x8, rank 3, f32> is not !dcom.factored<2x16x8, rank 4, f32>}}
  %g = dcom.slice %f {offset = 0 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<2x16x8, rank 3, f32>
  func.return
}

// -----

func.func @f(%x: !dcom.outliers<2x16x64, capacity 3, f32>, %w: tensor<64x24xf32>) {
  // expected-error @+1 {{operand is used with type !dcom.outliers<2x16x64, capacity 2, f32>, but has been previously used or defined with type !dcom.outliers<2x16x64, capacity 3, f32>}}
  %y = dcom.outlier_matmul %x, %w : !dcom.outliers<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  func.return
}

// -----

// expected-error @+1 {{rank 0 is not between 1 and the 64 rows of the weight}}
func.func private @f(!dcom.weight<64x24, rank 0x4, f32>)

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{energy 0 is not above 0 and at most 1}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, energy = 0.0 : f32} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{reorthogonalisation -1 is not between 0 and 8}}
  %factors = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = -1 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{min_count 0 is not between 1 and the 16 rows of a prompt}}
  %dense, %outliers = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 3 : i64, threshold = 1.0 : f32, min_count = 0 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>) {
  // expected-error @+1 {{layer -1 is negative}}
  %dense, %tokens = dcom.token_split %x {layer = -1 : i64, site = "o", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  func.return
}

// -----

// expected-error @+1 {{capacity 0 is not between 1 and the 64 channels}}
func.func private @f(!dcom.outliers<2x16x64, capacity 0, f32>)

// -----

// expected-error @+1 {{expected a shape of three positive dimensions: prompts x tokens x channels}}
func.func private @f(!dcom.tokens<0x16x64, capacity 2, f32>)

// -----

func.func @f(%u: tensor<64x8xf32>, %core: tensor<8x8xf32>, %v: tensor<8x24xf32>) {
  // expected-error @+1 {{unknown site 'p', expected one of qkv, o, gate_up, down}}
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "p", method = "svd"} : tensor<64x8xf32>, tensor<8x8xf32>, tensor<8x24xf32> -> !dcom.weight<64x24, rank 8x8, f32>
  func.return
}

// -----

// expected-error @+1 {{block 0 is not between 1 and the 16 rows of a prompt}}
func.func private @f(!dcom.factored<2x16x64, block 0, rank 1, f32>)

// -----

func.func @f(%x: tensor<2x16x64xf32>, %w: !dcom.weight<64x24, rank 8x8, f32>) {
  // expected-error @+1 {{expected a tensor of rows x channels, got 3 dimensions}}
  %y = dcom.weight_matmul %x, %w : tensor<2x16x64xf32>, !dcom.weight<64x24, rank 8x8, f32> -> tensor<32x24xf32>
  func.return
}

// -----

func.func @f(%x: tensor<32x64xf32>, %w: !dcom.weight<64x24, rank 8x8, f32>) {
  // expected-error @+1 {{result type tensor<32x25xf32> is not tensor<32x24xf32>}}
  %y = dcom.weight_matmul %x, %w : tensor<32x64xf32>, !dcom.weight<64x24, rank 8x8, f32> -> tensor<32x25xf32>
  func.return
}
