// RUN: %dcomc opt %s | filecheck %s
// RUN: %dcomc opt %s --print-op-generic | %dcomc opt - | filecheck %s
// RUN: %dcomc opt %s --print-debuginfo | %dcomc opt - --print-debuginfo | filecheck %s --check-prefix=LOC

// CHECK-LABEL: func.func @outliers
func.func @outliers(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>) -> (tensor<32x64xf32>, tensor<32x24xf32>) {
  // CHECK: %[[DENSE:.*]], %[[OUT:.*]] = dcom.outlier_split %x {layer = 10 : i64, site = "qkv", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  // LOC: dcom.outlier_split {{.*}} loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
  %dense, %out = dcom.outlier_split %x {layer = 10 : i64, site = "qkv", capacity = 3 : i64}
    : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32> loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
  // CHECK: dcom.outlier_matmul %[[OUT]], %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  %y = dcom.outlier_matmul %out, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  func.return %dense, %y : tensor<32x64xf32>, tensor<32x24xf32>
}

// CHECK-LABEL: func.func @outliers_by_threshold
func.func @outliers_by_threshold(%x: tensor<32x64xf16>) -> tensor<32x64xf16> {
  // CHECK: dcom.outlier_split %x {layer = 0 : i64, site = "down", capacity = 3 : i64, threshold = 3.500000e+00 : f32, min_count = 5 : i64} : tensor<32x64xf16> -> tensor<32x64xf16>, !dcom.outliers<1x32x64, capacity 3, f16>
  %dense, %out = dcom.outlier_split %x
    {layer = 0 : i64, site = "down", capacity = 3 : i64, threshold = 3.5 : f32, min_count = 5 : i64}
    : tensor<32x64xf16> -> tensor<32x64xf16>, !dcom.outliers<1x32x64, capacity 3, f16>
  func.return %dense : tensor<32x64xf16>
}

// CHECK-LABEL: func.func @factors
func.func @factors(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>) -> tensor<32x24xf32> {
  // CHECK: %[[F:.*]] = dcom.decompose %x {layer = 10 : i64, site = "o", iterations = 15 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 10, f32>
  %f = dcom.decompose %x {layer = 10 : i64, site = "o", iterations = 15 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}
    : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 10, f32>
  // CHECK: %[[G:.*]] = dcom.matmul %[[F]], %w {dcom.role = "o_proj"} : !dcom.factored<2x16x64, rank 10, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 10, f32>
  %g = dcom.matmul %f, %w {dcom.role = "o_proj"} : !dcom.factored<2x16x64, rank 10, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 10, f32>
  // CHECK: dcom.reconstruct %[[G]] : !dcom.factored<2x16x24, rank 10, f32> -> tensor<32x24xf32>
  %y = dcom.reconstruct %g : !dcom.factored<2x16x24, rank 10, f32> -> tensor<32x24xf32>
  func.return %y : tensor<32x24xf32>
}

// CHECK-LABEL: func.func @on_the_accelerator
func.func @on_the_accelerator(%x: tensor<32x64xf16>) -> tensor<32x64xf16> {
  // CHECK: dcom.decompose %x {{.*}}seed = 7 : i64, start = "mean", energy = 7.500000e-01 : f32, kernel = @lanczos} : tensor<32x64xf16> -> !dcom.factored<1x32x64, rank 32, f16>
  %f = dcom.decompose %x {layer = 3 : i64, site = "gate_up", iterations = 32 : i64, reorthogonalisation = 1 : i64, seed = 7 : i64, start = "mean", energy = 0.75 : f32, kernel = @lanczos}
    : tensor<32x64xf16> -> !dcom.factored<1x32x64, rank 32, f16>
  %y = dcom.reconstruct %f : !dcom.factored<1x32x64, rank 32, f16> -> tensor<32x64xf16>
  func.return %y : tensor<32x64xf16>
}

// A basis for each block of rows; a block as long as a prompt goes without saying.
// CHECK-LABEL: func.func @blocks
func.func @blocks(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>, %whole: !dcom.factored<2x16x64, block 16, rank 4, f32>) -> tensor<32x24xf32> {
  // CHECK-SAME: %whole: !dcom.factored<2x16x64, rank 4, f32>
  // CHECK: %[[F:.*]] = dcom.decompose %x {{.*}} : tensor<32x64xf32> -> !dcom.factored<2x16x64, block 5, rank 4, f32>
  %f = dcom.decompose %x {layer = 10 : i64, site = "o", iterations = 5 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}
    : tensor<32x64xf32> -> !dcom.factored<2x16x64, block 5, rank 4, f32>
  // CHECK: %[[G:.*]] = dcom.matmul %[[F]], %w : !dcom.factored<2x16x64, block 5, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 5, rank 4, f32>
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x64, block 5, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 5, rank 4, f32>
  // CHECK: dcom.reconstruct %[[G]] : !dcom.factored<2x16x24, block 5, rank 4, f32> -> tensor<32x24xf32>
  %y = dcom.reconstruct %g : !dcom.factored<2x16x24, block 5, rank 4, f32> -> tensor<32x24xf32>
  func.return %y : tensor<32x24xf32>
}

// CHECK-LABEL: func.func @exact_tokens
func.func @exact_tokens(%x: tensor<32x64xf32>, %y: tensor<32x48xf32>, %w: tensor<64x24xf32>) -> (tensor<32x48xf32>, tensor<32x24xf32>) {
  // CHECK: %[[DENSE:.*]], %[[T:.*]] = dcom.token_split %x {layer = 10 : i64, site = "gate_up", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  %dense, %tokens = dcom.token_split %x {layer = 10 : i64, site = "gate_up", capacity = 2 : i64}
    : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  // CHECK: %{{.*}}, %{{.*}} = dcom.token_split %y like %[[T]] : !dcom.tokens<2x16x64, capacity 2, f32> {layer = 10 : i64, site = "down", capacity = 2 : i64} : tensor<32x48xf32> -> tensor<32x48xf32>, !dcom.tokens<2x16x48, capacity 2, f32>
  %rest, %same = dcom.token_split %y like %tokens : !dcom.tokens<2x16x64, capacity 2, f32>
    {layer = 10 : i64, site = "down", capacity = 2 : i64}
    : tensor<32x48xf32> -> tensor<32x48xf32>, !dcom.tokens<2x16x48, capacity 2, f32>
  // CHECK: dcom.token_matmul %[[T]], %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  %product = dcom.token_matmul %tokens, %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  func.return %rest, %product : tensor<32x48xf32>, tensor<32x24xf32>
}

// CHECK-LABEL: func.func @project
func.func @project(%y: tensor<32x48xf32>, %f: !dcom.factored<2x16x64, block 5, rank 4, f32>) -> tensor<32x48xf32> {
  // CHECK: dcom.project %y on %f {layer = 10 : i64, site = "down"} : tensor<32x48xf32>, !dcom.factored<2x16x64, block 5, rank 4, f32> -> !dcom.factored<2x16x48, block 5, rank 4, f32>
  %g = dcom.project %y on %f {layer = 10 : i64, site = "down"} : tensor<32x48xf32>, !dcom.factored<2x16x64, block 5, rank 4, f32> -> !dcom.factored<2x16x48, block 5, rank 4, f32>
  %a = dcom.reconstruct %g : !dcom.factored<2x16x48, block 5, rank 4, f32> -> tensor<32x48xf32>
  func.return %a : tensor<32x48xf32>
}

// CHECK-LABEL: func.func @scale
func.func @scale(%f: !dcom.factored<2x16x64, block 5, rank 4, f16>, %rows: tensor<32xf16>, %channels: tensor<64xf16>) -> tensor<32x64xf16> {
  // CHECK: %[[R:.*]] = dcom.scale %f by %rows {axis = "rows"} : !dcom.factored<2x16x64, block 5, rank 4, f16>, tensor<32xf16> -> !dcom.factored<2x16x64, block 5, rank 4, f16>
  %r = dcom.scale %f by %rows {axis = "rows"} : !dcom.factored<2x16x64, block 5, rank 4, f16>, tensor<32xf16> -> !dcom.factored<2x16x64, block 5, rank 4, f16>
  // CHECK: dcom.scale %[[R]] by %channels {axis = "channels"}
  %c = dcom.scale %r by %channels {axis = "channels"} : !dcom.factored<2x16x64, block 5, rank 4, f16>, tensor<64xf16> -> !dcom.factored<2x16x64, block 5, rank 4, f16>
  %x = dcom.reconstruct %c : !dcom.factored<2x16x64, block 5, rank 4, f16> -> tensor<32x64xf16>
  func.return %x : tensor<32x64xf16>
}

// CHECK-LABEL: func.func @tracks
func.func @tracks(%f: !dcom.factored<2x16x24, block 8, rank 4, f32>, %o: !dcom.outliers<2x16x64, capacity 3, f32>, %t: !dcom.tokens<2x16x64, capacity 2, f32>, %w: tensor<64x24xf32>, %bias: tensor<24xf32>) -> !dcom.factored<2x16x24, block 8, rank 7, f32> {
  // CHECK: %[[B:.*]] = dcom.bias_track %bias : tensor<24xf32> -> !dcom.factored<2x16x24, block 8, rank 1, f32>
  %b = dcom.bias_track %bias : tensor<24xf32> -> !dcom.factored<2x16x24, block 8, rank 1, f32>
  // CHECK: %[[O:.*]] = dcom.exact_track %o, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 8, rank 3, f32>
  %p = dcom.exact_track %o, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 8, rank 3, f32>
  // CHECK: dcom.reconstruct %f {left_first} : !dcom.factored<2x16x24, block 8, rank 4, f32> -> tensor<32x24xf32>
  %y = dcom.reconstruct %f {left_first} : !dcom.factored<2x16x24, block 8, rank 4, f32> -> tensor<32x24xf32>
  // CHECK: dcom.exact_track %t, %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 8, rank 2, f32>
  %q = dcom.exact_track %t, %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, block 8, rank 2, f32>
  // CHECK: dcom.concat %f, %[[O]] : !dcom.factored<2x16x24, block 8, rank 4, f32>, !dcom.factored<2x16x24, block 8, rank 3, f32> -> !dcom.factored<2x16x24, block 8, rank 7, f32>
  %g = dcom.concat %f, %p : !dcom.factored<2x16x24, block 8, rank 4, f32>, !dcom.factored<2x16x24, block 8, rank 3, f32> -> !dcom.factored<2x16x24, block 8, rank 7, f32>
  func.return %g : !dcom.factored<2x16x24, block 8, rank 7, f32>
}

// CHECK-LABEL: func.func @slice
func.func @slice(%f: !dcom.factored<2x16x24, block 5, rank 4, f16>, %g: !dcom.factored<2x16x24, rank 4x6, f32>) -> (!dcom.factored<2x16x8, block 5, rank 4, f16>, !dcom.factored<2x16x8, rank 4x6, f32>) {
  // CHECK: dcom.slice %f {offset = 16 : i64} : !dcom.factored<2x16x24, block 5, rank 4, f16> -> !dcom.factored<2x16x8, block 5, rank 4, f16>
  %s = dcom.slice %f {offset = 16 : i64} : !dcom.factored<2x16x24, block 5, rank 4, f16> -> !dcom.factored<2x16x8, block 5, rank 4, f16>
  // CHECK: dcom.slice %g {offset = 0 : i64} : !dcom.factored<2x16x24, rank 4x6, f32> -> !dcom.factored<2x16x8, rank 4x6, f32>
  %t = dcom.slice %g {offset = 0 : i64} : !dcom.factored<2x16x24, rank 4x6, f32> -> !dcom.factored<2x16x8, rank 4x6, f32>
  func.return %s, %t : !dcom.factored<2x16x8, block 5, rank 4, f16>, !dcom.factored<2x16x8, rank 4x6, f32>
}

// The tracks of both blocks stand side by side.
// CHECK-LABEL: func.func @left_of_blocks
func.func @left_of_blocks(%f: !dcom.factored<2x16x24, block 8, rank 4, f32>, %p: tensor<2x9x16xf16>) -> !dcom.factored<2x9x24, rank 8, f32> {
  // CHECK: dcom.left_matmul %p, %f : tensor<2x9x16xf16>, !dcom.factored<2x16x24, block 8, rank 4, f32> -> !dcom.factored<2x9x24, rank 8, f32>
  %l = dcom.left_matmul %p, %f : tensor<2x9x16xf16>, !dcom.factored<2x16x24, block 8, rank 4, f32> -> !dcom.factored<2x9x24, rank 8, f32>
  func.return %l : !dcom.factored<2x9x24, rank 8, f32>
}

// CHECK-LABEL: func.func @heads
func.func @heads(%f: !dcom.factored<2x16x24, rank 4, f32>, %p: tensor<2x3x2x9x16xf32>, %w: tensor<48x10xf32>) -> tensor<18x10xf32> {
  // CHECK: %[[H:.*]] = dcom.split_heads %f {groups = 3 : i64, shared = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<12x16x8, rank 4, f32>
  %h = dcom.split_heads %f {groups = 3 : i64, shared = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<12x16x8, rank 4, f32>
  // CHECK: %[[L:.*]] = dcom.left_matmul %p, %[[H]] : tensor<2x3x2x9x16xf32>, !dcom.factored<12x16x8, rank 4, f32> -> !dcom.factored<12x9x8, rank 4, f32>
  %l = dcom.left_matmul %p, %h : tensor<2x3x2x9x16xf32>, !dcom.factored<12x16x8, rank 4, f32> -> !dcom.factored<12x9x8, rank 4, f32>
  // CHECK: %[[M:.*]] = dcom.head_matmul %[[L]], %w {heads = 6 : i64} : !dcom.factored<12x9x8, rank 4, f32>, tensor<48x10xf32> -> !dcom.factored<12x9x10, rank 4, f32>
  %m = dcom.head_matmul %l, %w {heads = 6 : i64} : !dcom.factored<12x9x8, rank 4, f32>, tensor<48x10xf32> -> !dcom.factored<12x9x10, rank 4, f32>
  // CHECK: dcom.reconstruct_heads %[[M]] {heads = 6 : i64} : !dcom.factored<12x9x10, rank 4, f32> -> tensor<18x10xf32>
  %y = dcom.reconstruct_heads %m {heads = 6 : i64} : !dcom.factored<12x9x10, rank 4, f32> -> tensor<18x10xf32>
  func.return %y : tensor<18x10xf32>
}

// CHECK-LABEL: func.func @weight
func.func @weight(%f: !dcom.factored<2x16x64, block 5, rank 4, f32>, %x: tensor<32x64xf32>, %u: tensor<64x8xf32>, %core: tensor<8x6xf32>, %v: tensor<6x24xf32>) -> (tensor<32x24xf32>, tensor<32x24xf32>) {
  // CHECK: %[[W:.*]] = dcom.factored_weight %u, %core, %v {of = "model.layers.10.self_attn.q_proj.weight", layer = 10 : i64, site = "qkv", method = "svd"} : tensor<64x8xf32>, tensor<8x6xf32>, tensor<6x24xf32> -> !dcom.weight<64x24, rank 8x6, f32>
  %w = dcom.factored_weight %u, %core, %v {of = "model.layers.10.self_attn.q_proj.weight", layer = 10 : i64, site = "qkv", method = "svd"}
    : tensor<64x8xf32>, tensor<8x6xf32>, tensor<6x24xf32> -> !dcom.weight<64x24, rank 8x6, f32>
  // CHECK: dcom.matmul %f, %[[W]] : !dcom.factored<2x16x64, block 5, rank 4, f32>, !dcom.weight<64x24, rank 8x6, f32> -> !dcom.factored<2x16x24, block 5, rank 4x6, f32>
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x64, block 5, rank 4, f32>, !dcom.weight<64x24, rank 8x6, f32> -> !dcom.factored<2x16x24, block 5, rank 4x6, f32>
  %y = dcom.reconstruct %g : !dcom.factored<2x16x24, block 5, rank 4x6, f32> -> tensor<32x24xf32>
  // CHECK: dcom.weight_matmul %x, %[[W]] : tensor<32x64xf32>, !dcom.weight<64x24, rank 8x6, f32> -> tensor<32x24xf32>
  %z = dcom.weight_matmul %x, %w : tensor<32x64xf32>, !dcom.weight<64x24, rank 8x6, f32> -> tensor<32x24xf32>
  func.return %y, %z : tensor<32x24xf32>, tensor<32x24xf32>
}

// The least and the most that the verifiers allow.
// CHECK-LABEL: func.func @limits
func.func @limits(%x: tensor<16x64xf32>, %p: tensor<9x16xf32>, %w: tensor<64x24xf32>) -> tensor<9x24xf32> {
  // CHECK: dcom.outlier_split %x {layer = 0 : i64, site = "qkv", capacity = 1 : i64, threshold = 0.000000e+00 : f32, min_count = 1 : i64}
  %dense, %o = dcom.outlier_split %x {layer = 0 : i64, site = "qkv", capacity = 1 : i64, threshold = 0.0 : f32, min_count = 1 : i64}
    : tensor<16x64xf32> -> tensor<16x64xf32>, !dcom.outliers<1x16x64, capacity 1, f32>
  // CHECK: dcom.outlier_split {{.*}} capacity = 64 : i64, threshold = 1.000000e+00 : f32, min_count = 16 : i64}
  %rest, %all = dcom.outlier_split %dense {layer = 0 : i64, site = "qkv", capacity = 64 : i64, threshold = 1.0 : f32, min_count = 16 : i64}
    : tensor<16x64xf32> -> tensor<16x64xf32>, !dcom.outliers<1x16x64, capacity 64, f32>
  // CHECK: %[[F:.*]] = dcom.decompose {{.*}} iterations = 1 : i64, reorthogonalisation = 0 : i64, {{.*}} energy = 1.000000e+00 : f32}
  %f = dcom.decompose %rest {layer = 0 : i64, site = "qkv", iterations = 1 : i64, reorthogonalisation = 0 : i64, seed = 0 : i64, energy = 1.0 : f32}
    : tensor<16x64xf32> -> !dcom.factored<1x16x64, rank 1, f32>
  // CHECK: %[[H:.*]] = dcom.split_heads %[[F]] {groups = 1 : i64, shared = 1 : i64}
  %h = dcom.split_heads %f {groups = 1 : i64, shared = 1 : i64} : !dcom.factored<1x16x64, rank 1, f32> -> !dcom.factored<1x16x64, rank 1, f32>
  // CHECK: %[[L:.*]] = dcom.left_matmul %p, %[[H]] : tensor<9x16xf32>
  %l = dcom.left_matmul %p, %h : tensor<9x16xf32>, !dcom.factored<1x16x64, rank 1, f32> -> !dcom.factored<1x9x64, rank 1, f32>
  // CHECK: %[[M:.*]] = dcom.head_matmul %[[L]], %w {heads = 1 : i64}
  %m = dcom.head_matmul %l, %w {heads = 1 : i64} : !dcom.factored<1x9x64, rank 1, f32>, tensor<64x24xf32> -> !dcom.factored<1x9x24, rank 1, f32>
  // CHECK: dcom.reconstruct_heads %[[M]] {heads = 1 : i64}
  %y = dcom.reconstruct_heads %m {heads = 1 : i64} : !dcom.factored<1x9x24, rank 1, f32> -> tensor<9x24xf32>
  func.return %y : tensor<9x24xf32>
}

// CHECK: func.func private @least(!dcom.factored<1x1x1, rank 1, f32>, !dcom.factored<1x4x4, block 1, rank 1, f32>, !dcom.outliers<1x1x1, capacity 1, f32>, !dcom.tokens<1x1x1, capacity 1, f32>, !dcom.weight<1x1, rank 1x1, f32>)
func.func private @least(!dcom.factored<1x1x1, rank 1, f32>, !dcom.factored<1x4x4, block 1, rank 1, f32>, !dcom.outliers<1x1x1, capacity 1, f32>, !dcom.tokens<1x1x1, capacity 1, f32>, !dcom.weight<1x1, rank 1x1, f32>)
